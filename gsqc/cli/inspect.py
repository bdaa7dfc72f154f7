# SPDX-License-Identifier: Apache-2.0
"""gsqc inspect: what a bundle holds."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AGAIN
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption
from gsqc.errors import BundleError
from gsqc.printable import printable

KEYS = (
    "bits",
    "base",
    "adapter",
    "optimizer",
    "sequence_length",
    "batch",
    "float_operators",
    "planned_peak_bytes",
    "weights_bytes",
    "code_bytes",
    "operators",
)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{k} {_text(v)}" for k, v in value.items())
    return (
        "+".join(map(_text, value))
        if isinstance(value, list)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _npu(npu: dict[str, Any]) -> dict[str, Any]:
    """What Vela said of a bundle for an NPU; nothing for others."""
    if not npu:
        return {}
    step = npu["step"]
    return {
        "accelerator": {
            k: npu[k]
            for k in ("accelerator", "system_config", "memory_mode", "sram_kib", "dram_mib")
        },
        "dram bytes": npu["dram_bytes"],
        "npu operators": sum(p["npu_operators"] for p in npu["programs"].values()),
        "cpu operators": sum(p["cpu_operators"] for p in npu["programs"].values()),
        "cycles of a step, Vela's estimate": step["cycles"],
        "of these, by kind (estimate)": step["cycles_by_kind"],
        "by op (estimate)": dict(list(step["cycles_by_op"].items())[:8]),
        "with plain int8 matmuls (estimate)": step["cycles_with_plain_int8_matmul"],
    }


def inspect(
    bundle: BundleArgument,
    json: JsonOption = False,
) -> None:
    """Show sizes, options and operators of BUNDLE, without running its code."""
    out = Output(json)
    opened = Bundle.open(bundle, check_machine=False)
    manifest = opened.manifest
    missing = [k for k in KEYS if k not in manifest]
    if missing:
        raise BundleError(f"the bundle's manifest has no {', '.join(missing)}", AGAIN)
    record = {"target": manifest["target"].get("name"), **{k: manifest[k] for k in KEYS}}
    programs = manifest.get("programs", {})
    record["programs"] = (
        len(programs) or "none: tosa-tools was not installed when the bundle was compiled"
    )
    record |= _npu(manifest.get("npu", {}))
    record["model"] = {
        k: manifest["model"].get(k) for k in ("name", "layers", "hidden", "vocabulary")
    }
    table = Table(show_header=False)
    for key, value in record.items():
        table.add_row(key.replace("_", " "), Text(printable(_text(value))))
    out.console.print(table)
    out.emit(record)

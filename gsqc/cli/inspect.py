# SPDX-License-Identifier: Apache-2.0
"""gsqc inspect: shows what a bundle holds."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from gsqc.bundle.base import base_lines
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption
from gsqc.printable import printable
from gsqc.targets.registry import find_own

KEYS = (
    "bits",
    "base",
    "adapter",
    "optimizer",
    "sequence_length",
    "batch",
    "planned_peak_bytes",
    "weights_bytes",
    "operators",
)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{k} {_text(v)}" for k, v in value.items())
    return (
        "+".join(map(_text, value))
        if isinstance(value, list | tuple)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _code(name: str, part: TargetPart) -> dict[str, Any]:
    """What a bundle's manifest and the target say of the code for it."""
    shown = {key: getattr(part, key) for key in ("triple", "cpu_features", "rank", "code_bytes")}
    target = find_own(name)
    return shown | (target.describe(part) if target else {"unknown": "no target of this gsqc"})


def inspect(
    bundle: BundleArgument,
    json: JsonOption = False,
) -> None:
    """Show sizes, options and operators of BUNDLE, without running its code."""
    out = Output(json)
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    data = manifest.to_json()
    record = {k: data[k] for k in KEYS}
    record["programs"] = (
        len(manifest.programs) or "none: tosa-tools was not installed when the bundle was compiled"
    )
    stored = base_lines(manifest.base, manifest.base_kinds, manifest.base_losses)
    record["calibration"] = data["calibration"]
    record["passes"] = manifest.passes or []
    record["model"] = {k: data["model"][k] for k in ("name", "layers", "hidden", "vocabulary")}
    table = Table(show_header=False)
    targets = {name: _code(name, part) for name, part in manifest.targets.items()}
    matrices = manifest.adapter.matrices.values()
    count = sum(matrix.rows * matrix.columns for matrix in matrices)
    shown = {
        **record,
        "adapter": f"{manifest.adapter}: {len(matrices)} matrices, {count:,} numbers",
        "calibration": manifest.calibration or "none",
        "passes": manifest.passes or "none",
    }
    rows = [(key.replace("_", " "), value) for key, value in shown.items()]
    rows += [("base as stored", line) for line in stored]
    rows += [(f"code for {name}", code) for name, code in targets.items()]
    for key, value in rows:
        table.add_row(Text(printable(key)), Text(printable(_text(value))))
    out.console.print(table)
    about = {"base_kinds": data["base_kinds"], "base_losses": data["base_losses"]}
    out.emit(record | about | {"targets": targets})

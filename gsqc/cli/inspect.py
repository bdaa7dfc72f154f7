# SPDX-License-Identifier: Apache-2.0
"""gsqc inspect: shows what a bundle holds."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import BundleArgument, JsonOption
from gsqc.errors import BundleError
from gsqc.printable import printable
from gsqc.targets.registry import target_of

KEYS = (
    "bits",
    "base",
    "adapter",
    "optimizer",
    "sequence_length",
    "batch",
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
        if isinstance(value, list | tuple)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def inspect(
    bundle: BundleArgument,
    json: JsonOption = False,
) -> None:
    """Show sizes, options and operators of BUNDLE, without running its code."""
    out = Output(json)
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    data = manifest.to_json()
    record = {"target": manifest.target.name, **{k: data[k] for k in KEYS}}
    record["programs"] = (
        len(manifest.programs) or "none: tosa-tools was not installed when the bundle was compiled"
    )
    try:
        record |= target_of(manifest.target).describe(manifest)
    except BundleError as error:
        record["code"] = str(error)
    record["model"] = {k: data["model"][k] for k in ("name", "layers", "hidden", "vocabulary")}
    table = Table(show_header=False)
    for key, value in record.items():
        table.add_row(key.replace("_", " "), Text(printable(_text(value))))
    out.console.print(table)
    out.emit(record)

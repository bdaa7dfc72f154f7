# SPDX-License-Identifier: Apache-2.0
"""take_adapter: from the path of an adapter to the state of a run.

The files may be a stranger's, so every field is checked, and nothing is unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.export.adapter import Slot, adapter_slots
from gsqc.export.fixed_point import Int32
from gsqc.export.foreign.base_name import require_base
from gsqc.export.foreign.find import FoundAdapter, find_adapter
from gsqc.export.foreign.fit import fit_adapter
from gsqc.export.foreign.llama_cpp import read_gguf_adapter
from gsqc.export.foreign.mlx import read_mlx
from gsqc.export.foreign.own_class import base_name_of_class, fit_own_class, has_own_class
from gsqc.export.foreign.pairs import ForeignAdapter
from gsqc.export.foreign.peft import read_peft


@dataclass(frozen=True)
class TakenAdapter:
    """An adapter as state tensors by name.

    file       the file of its weights
    base_name  the base model that the adapter names
    rounded    how many numbers were rounded
    notes      sentences for the user
    """

    tensors: dict[str, Int32]
    file: Path
    base_name: str
    rounded: int
    notes: tuple[str, ...]


def take_adapter(
    bundle: Bundle,
    path: Path,
    kind: str,
    accepted_names: frozenset[str] | None,
    subfolder: str | None = None,
) -> TakenAdapter:
    """The adapter at `path` for `bundle`.

    kind            "peft", "mlx" or "gguf"
    accepted_names  names of its base model, of which only the last part counts. None takes any
    subfolder       where in `path` it is

    Raises ExportError, ModelError for a damaged GGUF file, OptionError if gguf is not installed,
    and BundleError.
    """
    slots, weights = adapter_slots(bundle), bundle.manifest.base_kinds
    found = find_adapter(path, kind, subfolder)
    # Float64 has twice the bytes of the state, and an adapter may have more linears than it.
    most_bytes = 8 * bundle.plan.buffer_bytes("state")
    if has_own_class(found):
        base_name = base_name_of_class(found)
        copied = require_base(base_name, accepted_names)
        fitted = fit_own_class(found, slots, weights, most_bytes)
    else:
        foreign = _read(bundle, found, slots, most_bytes)
        base_name = foreign.base_name
        copied = require_base(base_name, accepted_names)
        initial = bundle.map_tensors("state.safetensors", bundle.plan.buffers["state"])
        fitted = fit_adapter(foreign, slots, initial, weights)
    notes = (*found.notes, *([copied] if copied else []), *fitted.notes)
    return TakenAdapter(fitted.tensors, found.weights, base_name, fitted.rounded, notes)


def _read(
    bundle: Bundle, found: FoundAdapter, slots: list[Slot], most_bytes: int
) -> ForeignAdapter:
    if found.kind == "gguf":
        return read_gguf_adapter(bundle, found, slots)
    return (read_mlx if found.kind == "mlx" else read_peft)(found, most_bytes)

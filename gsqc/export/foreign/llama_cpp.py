# SPDX-License-Identifier: Apache-2.0
"""read_gguf_adapter: an adapter in llama.cpp's form.

llama.cpp scales B·A by alpha / rank, or by 1 if alpha is 0 (get_scale in src/llama-adapter.h). Rows
of B of q and k have the file's order, and come back into Hugging Face's.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from typing import Any

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError
from gsqc.export.adapter import Slot
from gsqc.export.foreign.find import FoundAdapter
from gsqc.export.foreign.pairs import Floats, ForeignAdapter, Pair, is_scale, named, short
from gsqc.export.llama_cpp import import_gguf, place_in_file
from gsqc.models.readers.gguf_architectures import ARCHITECTURES, file_architecture
from gsqc.models.readers.gguf_stored import AS_IT_IS, Stored

_NAME = re.compile(r"(.+)\.weight\.lora_([ab])")
_AGAIN = "give a file that llama.cpp's convert_lora_to_gguf.py or gsqc export --gguf wrote"


def read_gguf_adapter(bundle: Bundle, found: FoundAdapter, slots: list[Slot]) -> ForeignAdapter:
    """The adapter of a GGUF file for a bundle with `slots`. Raises ExportError, OptionError, and
    ModelError if the file is damaged.
    """
    import_gguf()
    from gsqc.models.readers.gguf_file import read_gguf  # it needs the gguf package

    if not os.path.exists(found.weights):
        raise ExportError(f"there is no file {found.weights}", "check the path")
    file = read_gguf(found.weights)
    _require_lora(file.metadata, found, bundle)
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if alpha != 0 and not is_scale(alpha):
        raise ExportError(f"{found.weights} has an alpha of {short(alpha)}", _AGAIN)
    halves: dict[str, dict[str, Floats]] = {}
    for name, block in file.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or len(block.shape) != 2:
            raise ExportError(
                f"{found.weights} has a tensor {name[:120]} that is no lora_a or lora_b", _AGAIN
            )
        halves.setdefault(match[1], {})[match[2]] = _floats(block)
    notes = () if alpha else ("its alpha is 0, for which llama.cpp takes a scale of 1",)
    return ForeignAdapter("gguf", _pairs(bundle, found, slots, halves, alpha), "", notes)


def _pairs(
    bundle: Bundle,
    found: FoundAdapter,
    slots: list[Slot],
    halves: dict[str, dict[str, Floats]],
    alpha: float,
) -> dict[str, Pair]:
    """A and B by Hugging Face's names, rows in Hugging Face's order."""
    model = bundle.manifest.model
    name_of_file = file_architecture(model.architecture)
    assert name_of_file is not None, "_require_lora has seen to it"
    architecture = ARCHITECTURES[name_of_file]
    heads = model.heads, model.key_value_heads
    known: dict[str, tuple[Slot | None, Stored]] = {}
    for slot in slots:
        tensor, stored = place_in_file(
            architecture, slot.module, slot.layer, slot.shapes["b"], heads
        )
        known[tensor.removesuffix(".weight")] = slot, stored
    pairs = {}
    for name, half in halves.items():
        if len(half) == 1:
            raise ExportError(
                f"{found.weights} has {name[:120]}.weight.lora_{next(iter(half))} alone", _AGAIN
            )
        a, b = half["a"], half["b"]
        found_slot, stored = known.get(name, (None, AS_IT_IS))
        # A matrix of another model may have other rows. It is refused by its shape.
        if found_slot and len(b) == found_slot.shapes["b"][0]:
            b = stored.rows_from_file(b)
        scale = Fraction(alpha) / max(1, len(a)) if alpha else Fraction(1)
        pairs[found_slot.module if found_slot else name] = Pair(a, b, scale)
    return pairs


def _require_lora(metadata: dict[str, Any], found: FoundAdapter, bundle: Bundle) -> None:
    """ExportError unless the file is a LoRA of the bundle's architecture."""
    kind = metadata.get("general.type", "model")
    if kind != "adapter":
        raise ExportError(f"{found.weights} is a {named(kind)}, not an adapter", _AGAIN)
    adapter = metadata.get("adapter.type")
    if adapter != "lora":
        raise ExportError(f"{found.weights} is an adapter of the type {named(adapter)}", _AGAIN)
    if any(".alora." in key for key in metadata):
        raise ExportError(
            f"{found.weights} begins to work at certain tokens (aLoRA)",
            "gsqc takes adapters that work on every token",
        )
    wanted = file_architecture(bundle.manifest.model.architecture)
    given = metadata.get("general.architecture")
    if wanted is None or given != wanted:
        raise ExportError(
            f"{found.weights} is for the architecture {named(given)}, "
            f"the bundle is a {bundle.manifest.model.architecture}",
            "give an adapter of the bundle's model",
        )


def _floats(block: Any) -> Floats:
    """The numbers of a tensor, float32, in its own shape."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    values = dequantize(np.ascontiguousarray(block.raw), GGMLQuantizationType[block.type])
    return np.asarray(values, np.float32).reshape(block.shape)

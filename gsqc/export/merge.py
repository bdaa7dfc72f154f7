# SPDX-License-Identifier: Apache-2.0
"""MergedWeights: the base with the adapter merged into it, in float64, and rounded once to float32.

There are two bases to merge with:

trained   The values of the codes that the adapter was trained on. The merged model is the one that
          was trained.
original  The weights in the model's files. With a base of NF4 or GSE codes these are other numbers,
          and the adapter has learned to undo some of the difference. If the codes of a GGUF file
          were kept, both bases are the same.

Embedding tables are always the original ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gsqc.bundle.base import VECTOR_KIND, in_first_layer, in_layer
from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError, GsqcError, OptionError
from gsqc.export.adapter import TrainedAdapter, merged_weight
from gsqc.export.fixed_point import Float32
from gsqc.models import LoadedModel, load_classifier, load_model, model_path
from gsqc.models.base_codes import base_codes, is_exact
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.models.codes import Codes
from gsqc.models.layouts import LinearWeights, stored_layouts
from gsqc.models.low_rank import LOW_RANK, product

BASES = ("trained", "original")


def open_base(bundle: Bundle, model: str | None) -> tuple[LoadedModel, Path]:
    """The model that a bundle was compiled from, and its path.

    Raises OptionError if no model is named or the compiler is not installed, ModelError, and
    ExportError if the bundle was compiled from another model.
    """
    known = bundle.manifest.model.known_name
    chosen = model or (known if known in KNOWN_MODELS else None)
    if chosen is None:
        raise OptionError(
            "a merged model or head needs the model that the bundle was compiled from",
            "give it with --model DIR, FILE.gguf or ORG/NAME",
        )
    path = model_path(chosen)
    try:
        labels = bundle.manifest.model.labels
        loaded = load_model(chosen) if labels is None else load_classifier(chosen, labels)
        from gsqc.models.program import ProgramModule  # torch takes seconds to import
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is not installed", "pip install 'gsqc[compiler]'"
        ) from None
    if isinstance(loaded.module, ProgramModule):
        raise ExportError(
            f"{path.name} has no configuration that a merged model could have",
            "give what it was exported from: --model DIR",
        )
    _require_same(bundle, loaded, chosen)
    return loaded, path


def _require_same(bundle: Bundle, loaded: LoadedModel, chosen: str) -> None:
    """ExportError unless the first and the last layer that have a weight give the bundle's codes of
    it.
    """
    base = bundle.map_tensors("base.safetensors")
    weights = LinearWeights(loaded.weights, stored_layouts(loaded.module))
    held = {name.rpartition(".")[0] for name in base}
    for first, kind in bundle.manifest.base_kinds.items():
        # Layers may differ: ModernBERT's first one has no norm before its attention.
        places = [in_layer(first, layer) for layer in range(bundle.manifest.model.layers)]
        names = [name for name in places if name in held] or [first]
        for name in dict.fromkeys((names[0], names[-1])):
            try:
                arrays = base_codes(weights, name, kind).arrays
                same = all(
                    np.array_equal(base[f"{name}.{key}"], a.reshape(-1))
                    for key, a in arrays.items()
                )
            except (GsqcError, KeyError):
                same = False
            if not same:
                raise ExportError(
                    f"{chosen} is not the model that the bundle was compiled from ({name} differs)",
                    "give that model with --model",
                )


class MergedWeights:
    """The merged weights by Hugging Face's names, made one at a time."""

    def __init__(
        self, bundle: Bundle, loaded: LoadedModel, adapter: TrainedAdapter, base: str = "trained"
    ) -> None:
        self.loaded, self.base, self._bundle = loaded, base, bundle
        self._layouts = stored_layouts(loaded.module)
        self._weights = LinearWeights(loaded.weights, self._layouts)
        self._kinds = bundle.manifest.base_kinds
        self._linears = {f"{x.module}.weight": x for x in adapter.linears}

    def changed(self, name: str) -> bool:
        """Whether a weight differs from the one in the model's files."""
        return name in self._linears or self._coded(name) is not None

    def float32(self, name: str) -> Float32:
        """A merged weight in its own shape."""
        codes = self._coded(name)
        if codes is None:
            merged = self._weights.float32(name)
        else:
            merged = codes.float32() + self._correction(name)
        if name in self._linears:
            merged = merged_weight(merged, self._linears[name])
        # Bundles hold [outputs, inputs], whatever the model's file holds.
        layout = self._layouts.get(name)
        return merged if layout is None else layout.stored(merged, self.shapes()[name])

    def _coded(self, name: str) -> Codes | None:
        """The codes that training uses for a weight, or None if they hold the file's numbers."""
        kind = self._kinds.get(in_first_layer(name))
        if self.base != "trained" or kind is None or is_exact(kind) or kind == VECTOR_KIND:
            return None
        return base_codes(self._weights, name, kind)

    def _correction(self, name: str) -> Float32 | float:
        """What `--pass lorc` adds to the codes of a weight."""
        start = f"{name}.{LOW_RANK}"
        base = self._bundle.plan.buffers["base"]
        planned = {n: tensor for n, tensor in base.items() if n.startswith(start)}
        if not planned:
            return 0.0
        held = self._bundle.map_tensors("base.safetensors", planned)
        return product({n.removeprefix(f"{name}."): held[n] for n in planned}).astype(np.float32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter. Tied parameters have one name."""
        module: Any = self.loaded.module
        return {name: tuple(p.shape) for name, p in module.named_parameters()}


def stored_buffers(module: Any) -> dict[str, Float32]:
    """The numbers that a model stores beside its parameters, as those of xIELU, by their names.
    transformers fills them with anything where a file lacks them.

    ExportError if gsqc did not read them.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    stored = {name: b for name, b in module.state_dict().items() if name not in parameters}
    for name, buffer in stored.items():
        if buffer.is_meta:
            raise ExportError(
                f"the model stores {name}, which gsqc does not read",
                "export the adapter with --peft",
            )
    return {name: buffer.float().numpy() for name, buffer in stored.items()}

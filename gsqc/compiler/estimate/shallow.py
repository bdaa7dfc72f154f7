# SPDX-License-Identifier: Apache-2.0
"""plan_model: the plan that `gsqc compile` would make, in seconds: from two layers, without code
and without weights.

All decoder blocks are one function that is called once per layer, so two layers show all there is
to capture, and the rest are names. The weights of one layer are read, for the form of their codes.
Passes, memory planning and schedules are the compiler's own: the plan is equal to that of the
compiled bundle (tests/estimate).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from gsqc.compiler.frozen_weights import base_kind, names_outside_blocks
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.pipeline import Dump, Step, build_functions, lower_step
from gsqc.errors import ModelError
from gsqc.models import LoadedModel, load_model
from gsqc.models.capture import CapturedModel, capture_loaded
from gsqc.models.codes import Codes, base_codes, norm_codes
from gsqc.passes.outline_blocks import Outline, outline_blocks

SHOWN_LAYERS = 2


@dataclass(frozen=True)
class ShallowModel:
    """A model of which two layers are captured, and whose outline names them all. For one sequence
    length.
    """

    captured: CapturedModel
    outline: Outline

    def plan(self, options: CompileOptions) -> Step:
        """The step with these options, which have the model's sequence length."""
        codes = _first_codes(self.captured, self.outline, options)
        functions, adapters = build_functions(
            self.captured, self.outline, codes, options, Dump(None)
        )
        tables, norm = names_outside_blocks(self.outline)
        return lower_step(functions, adapters, self.captured, self.outline, options, tables, norm)


def open_shallow(model: str) -> tuple[LoadedModel, list[str]]:
    """The opened model with its first layers only, and the names of all its parameters. Raises
    ModelError.
    """
    loaded = load_model(model)
    names = [name for name, _ in loaded.module.named_parameters()]
    config: Any = loaded.module.config
    found = [
        (parent, key, child)
        for parent in loaded.module.modules()
        for key, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    ]
    if len(found) != 1:
        raise ModelError(
            "the model's decoder layers are not one list", "gsqc compiles Llama-like decoders"
        )
    parent, key, layers = found[0]
    _check_alike(layers)
    setattr(parent, key, layers[:SHOWN_LAYERS])
    return loaded, names


def _check_alike(layers: nn.ModuleList) -> None:
    """ModelError if the parameters of the layers differ; the compiler compares their operators too."""
    first = [(name, tuple(p.shape)) for name, p in layers[0].named_parameters()]
    for number, layer in enumerate(layers):
        if [(name, tuple(p.shape)) for name, p in layer.named_parameters()] != first:
            raise ModelError(
                f"decoder layer {number} differs from layer 0 in its parameters",
                "gsqc compiles models whose decoder layers are all alike",
            )


def capture_shallow(loaded: LoadedModel, names: list[str], sequence_length: int) -> ShallowModel:
    """Capture for a sequence length, and name every layer. Raises ModelError,
    UnsupportedOperatorError.
    """
    captured = capture_loaded(loaded, sequence_length)
    outline = outline_blocks(captured.graph)
    first, second = outline.parameters[0], outline.parameters[-1]
    layers = [
        [_in_layer(a, b, k) for a, b in zip(first, second, strict=True)]
        for k in range(captured.config.layers)
    ]
    unknown = {name for layer in layers for name in layer} - set(names)
    if unknown:
        raise ModelError(
            f"the model has no parameter {min(unknown)}", "gsqc compiles Llama-like decoders"
        )
    return ShallowModel(captured, replace(outline, parameters=layers))


def _in_layer(first: str, last: str, layer: int) -> str:
    """The name in a layer, from the names in the first one and another: the number in which they
    differ.
    """
    parts = [
        (a, b) for a, b in zip(re.split(r"(\d+)", first), re.split(r"(\d+)", last), strict=True)
    ]
    return "".join(a if a == b else str(layer) for a, b in parts)


def _first_codes(
    captured: CapturedModel, outline: Outline, options: CompileOptions
) -> dict[str, Codes]:
    """The codes of the first layer's weights: their shapes are those of every layer."""
    codes: dict[str, Codes] = {}
    for position, node in enumerate(outline.block_parameters):
        name = outline.parameters[0][position]
        if len(node.meta["shape"]) == 1:
            codes[name] = norm_codes(captured.weights.float32(name))
        else:
            kind = base_kind(captured, [layer[position] for layer in outline.parameters], options)
            codes[name] = base_codes(captured.weights, name, kind)
    return codes

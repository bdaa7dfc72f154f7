# SPDX-License-Identifier: Apache-2.0
"""plan_model: the plan that `gsqc compile` would make, in seconds: from two layers, without code
and without weights.

All decoder blocks are one function that is called once per layer, so two layers show all there is
to capture, and the rest are names. The weights of one layer are read, for the form of their codes.
Passes, memory planning and schedules are the compiler's own: the plan is equal to that of the
compiled bundle (tests/compiler/estimate).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from gsqc.compiler.calibration import is_balanced
from gsqc.compiler.compile import open_model, step_options
from gsqc.compiler.frozen_weights import FrozenWeights
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.pipeline import run_pipeline
from gsqc.errors import ModelError
from gsqc.models import LoadedModel
from gsqc.models.capture import CapturedModel, capture_loaded
from gsqc.models.program import ProgramModule
from gsqc.passes.outline import Outline
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.passes.step import Pass, Step

SHOWN_LAYERS = 2
_COMPILED = "compile the model: gsqc inspect shows the memory of a bundle"
_NUMBERS = ("layer_idx", "layer_id", "layer_number")
"""What transformers calls a layer's place among the layers."""


@dataclass(frozen=True)
class ShallowModel:
    """A model of which two layers are captured where all are alike, and the names of all its
    parameters. For one sequence length.
    """

    captured: CapturedModel
    names: frozenset[str]

    def plan(self, options: CompileOptions) -> Step:
        """The step with these options, which have the model's sequence length."""
        weights = FrozenWeights(self.captured.weights, options.base)
        balance = is_balanced(options, self.captured.tokenizer_json)
        passes = step_options(options, balance=balance)
        step = Step(self.captured.graph, weights.codes_of, passes)
        return run_pipeline(step, after=self._name_all_layers)

    def _name_all_layers(self, one: Pass, step: Step) -> None:
        if one is outline_blocks:
            step.outline = self._deepened(step.parts)

    def _deepened(self, outline: Outline) -> Outline:
        """The outline of all layers, from that of the layers that were captured."""
        layers = self.captured.config.layers
        # A classifier's head is one more layer, behind those that are alike.
        shown = outline.layers - (self.captured.labels is not None)
        if shown == layers:
            return outline
        first, last = outline.names[0], outline.names[shown - 1]
        names = [
            [_in_layer(a, b, k) for a, b in zip(first, last, strict=True)] for k in range(layers)
        ]
        unknown = {name for layer in names for name in layer} - self.names
        if unknown:
            raise ModelError(f"gsqc plan finds no parameter {min(unknown)} in the model", _COMPILED)
        kinds = [outline.layer_kinds[0]] * layers + outline.layer_kinds[shown:]
        return replace(outline, names=names + outline.names[shown:], layer_kinds=kinds)


def open_shallow(model: str, options: CompileOptions) -> tuple[LoadedModel, list[str]]:
    """The opened model with its first layers only where all are alike, and the names of all its
    parameters. `options` has its task. Raises ModelError, OptionError.
    """
    loaded = open_model(model, options)
    if isinstance(loaded.module, ProgramModule):  # all of its layers are captured
        return loaded, []
    names = [name for name, _ in loaded.module.named_parameters()]
    config: Any = loaded.module.config
    layers = getattr(config, "num_hidden_layers", None)
    found = [
        (parent, key, child)
        for parent in loaded.module.modules()
        for key, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == layers
    ]
    if len(found) != 1:
        raise ModelError("gsqc plan takes a model whose layers are one list", _COMPILED)
    parent, key, children = found[0]
    if _are_alike(children, config):
        setattr(parent, key, children[:SHOWN_LAYERS])
    return loaded, names


def _are_alike(layers: nn.ModuleList, config: Any) -> bool:
    """Whether all layers have the same parameters and settings. Where they do not, as with windows
    in some of them, each is captured.
    """
    kinds = getattr(config, "layer_types", None) or ()
    forms = [_form(layer) for layer in layers]
    return len(set(kinds)) <= 1 and all(form == forms[0] for form in forms)


def _form(layer: nn.Module) -> list[Any]:
    """The shapes of a layer's parameters, and the plain settings of its modules but its number."""
    shapes: list[Any] = [(name, tuple(p.shape)) for name, p in layer.named_parameters()]
    plain = (bool, int, float, str, type(None))
    settings = [
        (module, name, value)
        for module, part in layer.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, plain) and name not in _NUMBERS
    ]
    return shapes + settings


def capture_shallow(loaded: LoadedModel, names: list[str], sequence_length: int) -> ShallowModel:
    """Capture for a sequence length. Raises ModelError, UnsupportedOperatorError."""
    return ShallowModel(capture_loaded(loaded, sequence_length), frozenset(names))


def _in_layer(first: str, last: str, layer: int) -> str:
    """The name in a layer, from the names in the first one and another: the number in which they
    differ.
    """
    parts = [
        (a, b) for a, b in zip(re.split(r"(\d+)", first), re.split(r"(\d+)", last), strict=True)
    ]
    return "".join(a if a == b else str(layer) for a, b in parts)

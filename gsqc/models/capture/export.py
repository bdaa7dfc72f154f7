# SPDX-License-Identifier: Apache-2.0
"""export_model: torch.export of a Hugging Face decoder, with norms, rotary embedding and attention
as single operators.

The parts are replaced for the time of the export only, and the model is as before when it ends,
however it ends. Export runs on shapes: the weights need not exist.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gsqc.errors import ModelError
from gsqc.models.capture.known_rules import causal_mask, text_mask
from gsqc.models.capture.problems import refusal
from gsqc.models.capture.replaced import known_parts_replaced

WRAPPED = "wrapped"
"""Attribute that holds the user's model: the first part of every module path in an exported graph.
"""


@dataclass(frozen=True)
class Exported:
    """An exported program at the training IR.

    parameters  placeholder name -> Hugging Face's parameter name; tied ones share the first's
    constants   rope_cos and rope_sin, float64 [T, W/2], then rope_cos_1, rope_sin_1 … of other
                frequencies; empty if no rotary embedding was recognised
    numbers     placeholder name -> the number of a buffer that holds one
    known       placeholder name -> a buffer, or a tensor of the code, that no token changes
    hides_window  whether the model has a sliding window, which the mask that it is given lacks
    classifies  whether the result is that of a classifier: logits of the whole text
    """

    graph: torch.fx.Graph
    parameters: dict[str, str]
    constants: dict[str, npt.NDArray[np.float64]]
    numbers: dict[str, float]
    known: dict[str, Tensor]
    hides_window: bool
    classifies: bool = False


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.add_module(WRAPPED, model)
        has_table = any(hasattr(part, "token_type_embeddings") for part in model.modules())
        self.has_types = has_table and _TYPES in inspect.signature(model.forward).parameters
        self.first = _first_position(model)

    def forward(self, tokens: Tensor, mask: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        # An explicit mask, positions and types keep the code that would work them out from the
        # tokens out of the graph.
        result = self.get_submodule(WRAPPED)(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions + self.first if self.first else positions,
            **({_TYPES: types} if self.has_types else {}),
            use_cache=False,
            return_dict=True,
        )
        logits = getattr(result, "logits", None)
        if not isinstance(logits, Tensor):
            name = type(self.get_submodule(WRAPPED)).__name__
            raise ModelError(
                f"{name} gives no logits",
                "give the whole language model, with its head: …ForCausalLM",
            )
        return logits


_TYPES = "token_type_ids"


def _first_position(model: nn.Module) -> int:
    """The position that the model itself gives the first token of a text: RoBERTa counts from
    behind that of the padding.
    """
    counting: Any = (m for m in model.modules() if hasattr(m, "create_position_ids_from_input_ids"))
    return next((int(m.padding_idx) + 1 for m in counting), 0)


def export_model(model: nn.Module, tokens: int) -> Exported:
    """Export for one sequence of T tokens. Raises ModelError if torch.export cannot."""
    classifies = is_classifier(model)
    mask = text_mask(tokens) if classifies else causal_mask(tokens)
    try:
        with (
            known_parts_replaced(model, tokens) as constants,
            _shapes_on_cpu(model) as device,
            torch.no_grad(),
        ):
            arguments = (
                torch.zeros(1, tokens, dtype=torch.long, device=device),
                torch.zeros_like(mask, device=device),
                torch.arange(tokens, device=device)[None],
                torch.zeros(1, tokens, dtype=torch.long, device=device),
            )
            program = torch.export.export(_Logits(model), arguments, strict=False)
    except Exception as error:  # torch.export raises errors of many types
        raise refusal(model, error) from error
    names = _parameter_names(model, program.graph_signature)
    window: Any = getattr(getattr(model, "config", None), "sliding_window", None)
    known = _tensors(program) | {"mask": mask}
    numbers = {name: float(known[name]) for name in known if known[name].numel() == 1}
    tensors = {name: tensor for name, tensor in known.items() if name not in numbers}
    hides_window = bool(window) and window < tokens
    return Exported(program.graph, names, constants, numbers, tensors, hides_window, classifies)


def is_classifier(model: nn.Module) -> bool:
    """Whether it is a model of transformers that classifies a text."""
    return type(model).__name__.endswith("ForSequenceClassification")


@contextmanager
def _shapes_on_cpu(model: nn.Module) -> Iterator[torch.device]:
    """Within the context, parameters without numbers have the shapes of tensors on the CPU.

    On the meta device, what the code itself makes of numbers would lose them. Gives the device of
    the model.
    """
    device = next(model.parameters()).device
    if device.type != "meta":
        yield device
        return
    places = [
        (module._parameters, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = {
            id(p): nn.Parameter(torch.empty(p.shape, dtype=p.dtype), requires_grad=False)
            for _, _, p in places
        }
    try:
        for parameters, name, parameter in places:
            parameters[name] = made[id(parameter)]
        yield torch.device("cpu")
    finally:
        for parameters, name, parameter in places:
            parameters[name] = parameter


def _tensors(program: Any) -> dict[str, Tensor]:
    """The buffers and tensors of the code that have numbers, by their placeholders' names."""
    signature = program.graph_signature
    values = {**program.constants, **dict(program.named_buffers())}
    wanted = signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    tensors = {name: values[key] for name, key in wanted.items() if key in values}
    return {name: t.detach().cpu() for name, t in tensors.items() if not t.is_meta}


def _parameter_names(model: nn.Module, signature: Any) -> dict[str, str]:
    first: dict[int, str] = {}
    canonical: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        canonical[name] = first.setdefault(id(parameter), name)
    prefix = f"{WRAPPED}."
    return {p: canonical[n.removeprefix(prefix)] for p, n in signature.inputs_to_parameters.items()}

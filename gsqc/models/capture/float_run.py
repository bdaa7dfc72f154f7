# SPDX-License-Identifier: Apache-2.0
"""run_float: a captured graph in float torch, as the reference for the integer step.

A LoRA in float is one replaced function; gradients flow to whatever it closes over, and to
`overrides`:

    def with_lora(node, x, w):
        y = model_ops.linear(x, w)
        adapter = adapters.get(node.meta["module"])
        return y if adapter is None else y + adapter(x)

    logits = run_float(captured, tokens, parameters, {model_ops.linear: with_lora})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.fx
from torch import Tensor

from gsqc.errors import DataError
from gsqc.models.capture.captured import CapturedModel

Replacement = Callable[..., Tensor]


def float_parameters(captured: CapturedModel) -> dict[str, Tensor]:
    """All parameters that the graph uses, float32 by name: read them once, pass them to every run
    as overrides.
    """
    names = [n.meta["parameter"] for n in captured.graph.nodes if "parameter" in n.meta]
    return {name: _parameter(captured, name) for name in names}


def _parameter(captured: CapturedModel, name: str) -> Tensor:
    return torch.from_numpy(
        np.array(captured.weights.float32(name))
    )  # a copy: sources may be read-only


class FloatRun(torch.fx.Interpreter):
    """Interprets a captured graph; subclass it, or give replacements.

    overrides     tensors by parameter or constant name, in place of the model's own
    replacements  by function of `gsqc.models.model_ops`, called with (node, *args, **kwargs)
    """

    def __init__(
        self,
        captured: CapturedModel,
        overrides: Mapping[str, Tensor] | None = None,
        replacements: Mapping[Callable[..., Any], Replacement] | None = None,
    ) -> None:
        super().__init__(torch.fx.GraphModule(torch.nn.Module(), captured.graph))
        self.captured = captured
        self.overrides = dict(overrides or {})
        self.replacements = dict(replacements or {})

    def run_node(self, n: torch.fx.Node) -> Any:
        """A replaced function gets the node too, for its place in the model."""
        target: Any = n.target
        replacement = self.replacements.get(target) if n.op == "call_function" else None
        if replacement is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return replacement(n, *args, **kwargs)

    def logits(self, tokens: Tensor | npt.NDArray[Any] | list[int]) -> Tensor:
        """tokens [T] -> logits [T, V]. Raises DataError unless there are as many tokens as
        captured, all in range.
        """
        given = torch.as_tensor(tokens)
        inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
        (expected,) = inputs[0].meta["shape"]
        if given.shape != (expected,) or given.is_floating_point():
            raise DataError(
                f"tokens of shape {list(given.shape)}", f"give {expected} integers, as captured"
            )
        if not 0 <= int(given.min()) <= int(given.max()) < self.captured.config.vocabulary:
            raise DataError(
                "a token is outside the vocabulary", f"0 to {self.captured.config.vocabulary - 1}"
            )
        result: Tensor = self.run(given.long(), *(self._value(n.meta) for n in inputs[1:]))[0]
        return result

    def _value(self, meta: dict[str, Any]) -> Tensor:
        if "positions" in meta:
            return torch.arange(*meta["shape"])
        name = meta.get("parameter") or meta["constant"]
        if name in self.overrides:
            return self.overrides[name]
        if "parameter" in meta:
            return _parameter(self.captured, name)
        return torch.from_numpy(self.captured.constants[name]).float()


def run_float(
    captured: CapturedModel,
    tokens: Tensor | npt.NDArray[Any] | list[int],
    overrides: Mapping[str, Tensor] | None = None,
    replacements: Mapping[Callable[..., Any], Replacement] | None = None,
) -> Tensor:
    """Logits [T, V] of tokens [T] in float32, differentiable in `overrides`; see FloatRun."""
    return FloatRun(captured, overrides, replacements).logits(tokens)

# SPDX-License-Identifier: Apache-2.0
"""Masks of attention: found around the scores, and read by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gsqc.errors import ModelError
from gsqc.models.capture.attention_rules import window_of
from gsqc.models.capture.forms import Unsupported
from gsqc.models.capture.problems import MISSING
from gsqc.models.capture.programs.tracer import Node, Tracer, aten
from gsqc.models.capture.source import source_line

VIEWS = (aten.reshape.default, aten.expand.default, aten.unsqueeze.default, aten.squeeze.dim)
"""Those of a traced graph, in which each view is a reshape."""
_HIDDEN = -1e4
"""A score that is lowered by so much takes no part in a softmax. Files in float16 have no number
below -65504, so `known_rules.HIDDEN` would be too low.
"""


def behind(value: Any, skipped: Callable[[Node], Any]) -> Node | None:
    """The node behind views and what `skipped` says to skip."""
    while isinstance(value, Node):
        following: Any = value.args[0] if value.target in VIEWS else skipped(value)
        if following is None:
            return value
        value = following
    return None


def masks(tracer: Tracer, scores: Any) -> tuple[Node | None, list[Tensor]]:
    """Scores without their masks, and the masks: True or 0 where a score counts."""
    found: list[Tensor] = []

    def mask(node: Node) -> Any:
        placed = [tracer.placed.get(a) if isinstance(a, Node) else None for a in node.args]
        if node.target is aten.add.Tensor:
            for place, term in enumerate(placed[:2]):
                if term is not None:
                    found.append(term)
                    return node.args[1 - place]
        if node.target is aten.where.self and placed[0] is not None:
            kept = 1 if placed[1] is None and isinstance(node.args[1], Node) else 2
            found.append(placed[0] if kept == 1 else ~placed[0].bool())
            lowest: Any = node.args[3 - kept]
            if float(torch.as_tensor(tracer.placed.get(lowest, lowest)).max()) > _HIDDEN:
                return None
            return node.args[kept]
        return None

    return behind(scores, mask), found


def window(tracer: Tracer, node: Node, hidden: list[Tensor]) -> int | None:
    """The window that masks leave, None if a token sees all before it. Raises ModelError."""
    tokens = tracer.tokens
    visible = torch.ones(tokens, tokens, dtype=torch.bool)
    for mask in hidden:
        if mask.dtype != torch.bool:
            if bool(((mask > _HIDDEN) & (mask != 0)).any()):
                raise _other(node, "a bias of attention")
            mask = mask == 0
        parts = mask.expand(*mask.shape[:-2], tokens, tokens).reshape(-1, tokens, tokens)
        if not bool((parts == parts[:1]).all()):
            raise _other(node, "a mask for each head")
        visible &= parts[0]
    try:
        return window_of(~visible)
    except Unsupported as reason:
        raise _other(node, f"attention{reason}") from None


def _other(node: Node, what: str) -> ModelError:
    return ModelError(
        f"{MISSING}: {what}\n  {what} at {source_line(node.meta)}",
        "gsqc compiles causal softmax attention with shared key-value heads",
    )

# SPDX-License-Identifier: Apache-2.0
"""Which parts of a model are what we know: told by what they compute on a few random numbers, not
by their names.

A part that computes something else (a norm of another kind) is left as it is; its operators then
show up in the exported graph and are reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsqc.models import expert_ops, model_ops
from gsqc.models.layouts import holds_experts, is_xielu

TOLERANCE = 1e-4
HALVES, PAIRS, ONCE = "halves", "pairs", "once"
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    HALVES: lambda t: torch.cat([t, t], -1),
    PAIRS: lambda t: t.repeat_interleave(2, -1),
    ONCE: lambda t: t,
}
"""How a rope table [T, W] has its numbers [T, W/2]: twice, or once."""


class Tables(NamedTuple):
    """cos and sin [T, W/2] of a rotary embedding, and the layout in which its module gives them."""

    cos: npt.NDArray[np.float64]
    sin: npt.NDArray[np.float64]
    layout: str


def random_numbers(*shape: int) -> Tensor:
    """The same numbers each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def close(x: Any, y: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether both are tensors of one shape, and equal but for rounding."""
    return (
        isinstance(x, Tensor)
        and x.shape == y.shape
        and torch.allclose(x.float(), y, tolerance, tolerance)
    )


class Norm(NamedTuple):
    """What a norm with a weight alone computes.

    centres  whether it takes the mean away: LayerNorm, else RMS norm
    offset   what it adds to its weight
    """

    centres: bool
    eps: float
    offset: float


def known_norm(module: nn.Module) -> Norm | None:
    """What a module computes that is `model_ops.rms_norm` or `model_ops.layer_norm` over its last
    axis. None for any other module, and for torch's own LayerNorm, which is an operator already.
    """
    weight = getattr(module, "weight", None)
    found = (getattr(module, name, None) for name in ("variance_epsilon", "eps"))
    eps = next((e for e in found if isinstance(e, float)), None)
    if eps is None or not isinstance(weight, Tensor) or weight.ndim != 1:
        return None
    if isinstance(module, nn.LayerNorm) or len(list(module.parameters())) != 1:
        return None
    width = weight.shape[0]
    x = (random_numbers(2, 3, width) + 1) * eps**0.5  # so small that eps matters
    numbers = random_numbers(width)
    try:
        probe: Any = copy.deepcopy(module).to_empty(device="cpu").float().eval()
        with torch.no_grad():
            probe.weight.copy_(numbers)
            y = probe(x)
    except Exception:  # a module of the user's may do anything: then it is not a norm
        return None
    for norm in (Norm(False, eps, 0.0), Norm(False, eps, 1.0), Norm(True, eps, 0.0)):
        function = model_ops.layer_norm if norm.centres else model_ops.rms_norm
        if close(y, function(x, numbers, eps=eps, offset=norm.offset)):
            return norm
    return None


def gelu_form(module: nn.Module) -> str | None:
    """How torch's gelu says what the module computes, "tanh" or "none"; None for any other module.

    Some models write GELU out, as in 0.5·x·(1 + tanh(…)).
    """
    if any(True for _ in module.children()) or module.state_dict():
        return None
    x = torch.linspace(-6, 6, 120).reshape(1, 6, 20)
    try:
        with torch.no_grad():
            y = copy.deepcopy(module).eval()(x)
    except Exception:  # a module of the user's may do anything
        return None
    return gelu_of(x, y)


def gelu_of(x: Tensor, y: Any) -> str | None:
    """How torch's gelu says that it gives y for x, "tanh" or "none". None if it does not."""
    # The two forms differ by 5e-4 at most, and the same form written in another way by 1e-6.
    forms = ("tanh", "none")
    return next((f for f in forms if close(y, nn.functional.gelu(x, approximate=f), 1e-5)), None)


def xielu_beta(module: Any) -> float | None:
    """beta of a module that computes `model_ops.xielu` of the softplus of its two numbers. None for
    any other module.
    """
    if not is_xielu(module) or module.beta.is_meta or module.eps.is_meta:
        return None
    x, beta = random_numbers(3, 20) * 3, float(module.beta)
    try:
        probe: Any = copy.deepcopy(module).to_empty(device="cpu").float().eval()
        with torch.no_grad():
            probe.alpha_p.fill_(0.3)
            probe.alpha_n.fill_(-0.2)
            # What is no parameter keeps its numbers.
            probe.beta.copy_(module.beta)
            probe.eps.copy_(module.eps)
            y = probe(x)
    except Exception:  # a module of the user's may do anything
        return None
    numbers = (nn.functional.softplus(torch.tensor([n])) for n in (0.3, -0.2))
    positive, negative = numbers
    expected = model_ops.xielu(x, positive, negative + beta, beta=beta)
    return beta if close(y, expected) else None


def experts_gate(module: Any) -> tuple[str, tuple[float, ...]] | None:
    """The gate of a module that holds experts, by its name in `expert_ops.EXPERT_GATES` and its
    numbers. None for any other module.
    """
    if not holds_experts(module) or getattr(module, "has_post_expert_norm", False):
        return None
    gate, up = random_numbers(5, 8) * 8, random_numbers(5, 8) * 4
    turns = torch.stack([gate, up], -1).flatten(1)
    both = torch.cat([gate, up], -1) if module.is_concatenated else turns
    numbers = [getattr(module, name, None) for name in ("alpha", "limit")]
    known = [float(n) for n in numbers if isinstance(n, float | int)]
    try:
        with torch.no_grad():
            y = module._apply_gate(both)
    except Exception:  # a module of the user's may do anything
        return None
    for name, make in expert_ops.EXPERT_GATES.items():
        given = tuple(known) if name == "clamped" else ()
        if name == "clamped" and len(known) != 2:
            continue
        function, settings = make(*given)
        if close(y, function(gate, up, **settings)):
            return name, given
    return None


FREQUENCIES = "inv_freq"
"""How the names of the buffers of rotary embeddings end."""


def rope_tables(module: nn.Module, tokens: int) -> dict[str | None, Tables]:
    """The tables of a module that gives Hugging Face's rope tables, by the kind of
    layer that it is called with (None: it is called without). Empty for any other module.

    They are the model's own numbers (float32) for positions 0 … T-1, with whatever scaling it
    applies.
    """
    frequencies = {n: b for n, b in module.named_buffers(recurse=False) if n.endswith(FREQUENCIES)}
    kinds = {name.removesuffix(FREQUENCIES).removesuffix("_") or None for name in frequencies}
    kinds -= {"original", *(f"{kind}_original" for kind in kinds)}
    found = {
        kind: tables
        for kind in sorted(kinds, key=str)
        if (tables := _tables_of(module, tokens, kind)) is not None
    }
    return found if len(found) == len(kinds) else {}


def _tables_of(module: nn.Module, tokens: int, kind: str | None) -> Tables | None:
    device = next(module.buffers()).device
    if device.type == "meta":
        return None
    x = torch.empty(1, device=device)
    arguments = () if kind is None else (kind,)
    try:
        with torch.no_grad():
            positions = torch.arange(tokens, device=device)[None]
            tables = copy.deepcopy(module)(x, positions, *arguments)  # some grow their buffers
        if any(t.is_complex() for t in tables):
            return None
        cos, sin = (t[0].double().cpu() for t in tables)
    except Exception:
        return None
    frequencies = getattr(module, FREQUENCIES if kind is None else f"{kind}_{FREQUENCIES}")
    for layout, twice in LAYOUTS.items():
        width = cos.shape[-1]
        if layout == ONCE and width != len(frequencies):
            continue
        kept = {HALVES: slice(width // 2), PAIRS: slice(0, width, 2), ONCE: slice(width)}[layout]
        tables_kept = [t[:, kept] for t in (cos, sin)]
        if all(
            torch.equal(t, twice(h)) and t.shape[0] == tokens
            for t, h in zip((cos, sin), tables_kept, strict=True)
        ):
            first, second = (h.numpy().copy() for h in tables_kept)
            return Tables(first, second, layout)
    return None


def rope_of_pairs(function: Callable[..., Any], layout: str) -> bool | None:
    """Whether function(q, k, cos, sin) -> (q, k) is `model_ops.rope_pairs`, or `model_ops.rope`, on
    tables of that layout. None for any other function.

    If it takes tables that are narrower than the heads, it must rotate the first columns.
    """
    known = {False: model_ops.rope, True: model_ops.rope_pairs}
    found = [p for p, rotate in known.items() if _rotates(function, rotate, layout, 4)]
    # A function without partial rotation raises here, and it would raise within the model.
    return (
        found[0] if found and _rotates(function, known[found[0]], layout, 3) is not False else None
    )


def _rotates(
    function: Callable[..., Any], rotate: Callable[..., Tensor], layout: str, pairs: int
) -> bool | None:
    """Whether both give the same with tables of so many pairs, or None if the function raises."""
    q, angle = random_numbers(1, 2, 3, 8), random_numbers(3, pairs)
    k = q * 2
    cos, sin = angle.cos(), angle.sin()
    try:
        results = function(q, k, *(LAYOUTS[layout](t)[None] for t in (cos, sin)))
        return all(
            close(y[0], rotate(x[0], cos, sin)) for x, y in zip((q, k), results, strict=True)
        )
    except Exception:
        return None

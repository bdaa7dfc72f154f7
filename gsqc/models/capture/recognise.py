# SPDX-License-Identifier: Apache-2.0
"""Which parts of a model are what we know: told by what they compute on a few random numbers, not
by their names.

A part that computes something else (an RMS norm that adds one to its weight, a rotary embedding of
neighbouring pairs) is left as it is; its operators then show up in the exported graph and are
reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gsqc.models import model_ops

TOLERANCE = 1e-4
Tables = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def _close(x: Any, y: Tensor) -> bool:
    return (
        isinstance(x, Tensor)
        and x.shape == y.shape
        and torch.allclose(x.float(), y, TOLERANCE, TOLERANCE)
    )


def rms_norm_eps(module: nn.Module) -> float | None:
    """The eps of a module that computes `model_ops.rms_norm` over its last axis; None for any other
    module.
    """
    weight = getattr(module, "weight", None)
    eps = next(
        (
            e
            for a in ("variance_epsilon", "eps")
            if isinstance(e := getattr(module, a, None), float)
        ),
        None,
    )
    if (
        eps is None
        or not isinstance(weight, Tensor)
        or weight.ndim != 1
        or len(list(module.parameters())) != 1
    ):
        return None
    width = weight.shape[0]
    x = _random(2, 3, width) * eps**0.5  # so small that eps matters
    numbers = _random(width)
    try:
        probe: Any = copy.deepcopy(module).to_empty(device="cpu").float().eval()
        with torch.no_grad():
            probe.weight.copy_(numbers)
            y = probe(x)
    except Exception:  # a module of the user's may do anything: then it is not a norm
        return None
    return eps if _close(y, model_ops.rms_norm(x, numbers, eps=eps)) else None


def layer_norm_eps(module: nn.Module) -> float | None:
    """The eps of a module with a weight alone that writes LayerNorm out, as Cohere's does. None for
    any other module.
    """
    weight, eps = (getattr(module, name, None) for name in ("weight", "variance_epsilon"))
    if (
        not isinstance(weight, Tensor)
        or not isinstance(eps, float)
        or isinstance(module, nn.LayerNorm)
    ):
        return None
    if weight.ndim != 1 or len(list(module.parameters())) != 1:
        return None
    width = weight.shape[0]
    x = (_random(2, 3, width) + 1) * eps**0.5  # so small that eps matters
    numbers = _random(width)
    try:
        probe: Any = copy.deepcopy(module).to_empty(device="cpu").float().eval()
        with torch.no_grad():
            probe.weight.copy_(numbers)
            y = probe(x)
    except Exception:  # a module of the user's may do anything: then it is not a norm
        return None
    return eps if _close(y, model_ops.layer_norm(x, numbers, eps=eps)) else None


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
    # The two forms differ by 5e-4 at most, and the same form written in another way by 1e-6.
    for form in ("tanh", "none"):
        expected = nn.functional.gelu(x, approximate=form)
        if isinstance(y, Tensor) and y.shape == x.shape and (y - expected).abs().max() < 1e-5:
            return form
    return None


def rope_tables(module: nn.Module, tokens: int) -> Tables | None:
    """(cos, sin), each [T, D/2], of a module that gives Hugging Face's rope tables; None for any
    other module.

    They are the model's own numbers (float32) for positions 0 … T-1, with whatever scaling it
    applies.
    """
    frequencies = getattr(module, "inv_freq", None)
    if not isinstance(frequencies, Tensor) or frequencies.is_meta:
        return None
    x = torch.empty(1, device=frequencies.device)
    try:
        with torch.no_grad():
            positions = torch.arange(tokens, device=frequencies.device)[None]
            tables = copy.deepcopy(module)(x, positions)  # a copy: some grow their buffers
        cos, sin = (t[0].double().cpu() for t in tables)
    except Exception:
        return None
    half = cos.shape[-1] // 2
    if cos.shape != (tokens, 2 * half) or not all(
        torch.equal(t[:, :half], t[:, half:]) for t in (cos, sin)
    ):
        return None
    return cos[:, :half].numpy().copy(), sin[:, :half].numpy().copy()


def applies_rope(function: Callable[..., Any]) -> bool:
    """Whether function(q, k, cos, sin) -> (q, k) rotates pairs (j, j + D/2) as `model_ops.rope`
    does.
    """
    q, k, angle = _random(1, 2, 3, 8), _random(1, 2, 3, 8) * 2, _random(3, 4)
    cos, sin = angle.cos(), angle.sin()
    try:
        results = function(q, k, *(torch.cat([t, t], -1)[None] for t in (cos, sin)))
        return all(
            _close(y[0], model_ops.rope(x[0], cos, sin))
            for x, y in zip((q, k), results, strict=True)
        )
    except Exception:
        return False

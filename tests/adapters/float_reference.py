# SPDX-License-Identifier: Apache-2.0
"""What each kind of adapter does to a linear, in float64 and as its paper says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

Tensors = Mapping[str, torch.Tensor]
Arrays = Mapping[str, np.ndarray]


def _lora(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    a = p.get("a")
    if a is None:
        a = torch.tensor(arrays["a"].reshape(adapter.rank, -1) / 2.0**24)
    return x @ w.T + adapter.alpha / adapter.rank * (x @ a.T) @ p["b"].T


def _peqa(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    return (x @ w.T) * (1 + p["s"])


def _road(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    """A pair is a complex number, and its rotation a factor."""
    groups = (x @ w.T).reshape(len(x), -1, 2, adapter.group // 2)
    factor = torch.complex(1 + p["c"], p["s"]).reshape(-1, adapter.group // 2)
    turned = torch.complex(groups[:, :, 0], groups[:, :, 1]) * factor
    return torch.stack([turned.real, turned.imag], 2).reshape(len(x), -1)


def _paca(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    changed = w.clone()
    changed[:, arrays["index"]] += adapter.alpha / adapter.rank * p["d"]
    return x @ changed.T


def _miss(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    return x @ (w + p["m"].repeat(1, w.shape[1] // adapter.rank)).T


def _loldu(adapter: Any, x: Any, w: Any, p: Tensors, arrays: Arrays) -> torch.Tensor:
    """With LAPACK's factors, by partial pivoting."""
    order, lower, upper = torch.linalg.lu(w)
    lower, upper = (order @ lower)[:, : adapter.rank], upper[: adapter.rank]
    upper = upper / upper.diagonal()[:, None]
    return x @ (w + adapter.alpha / adapter.rank * (lower * p["z"]) @ upper).T


_KINDS: Mapping[str, Callable[..., torch.Tensor]] = {
    "lora": _lora,
    "peqa": _peqa,
    "road": _road,
    "paca": _paca,
    "miss": _miss,
    "loldu": _loldu,
}


def adapted(adapter: Any, x: Any, w: Any, matrices: Tensors, arrays: Arrays) -> torch.Tensor:
    """x [T, k], W [n, k], and matrices by name, all float64 -> y [T, n]. `arrays` are flat."""
    return _KINDS[adapter.kind](adapter, x, w, matrices, arrays)

# SPDX-License-Identifier: Apache-2.0
"""The adapter of a run, and what its fixed-point numbers are in float32.

The value of an int32 is p / 2^24 (docs/number-format.md). A float32 holds 24 significant bits, so
every number up to 1 in magnitude is exact; a larger one (less than 64) is rounded to the nearest
float32, half to even: a relative error of 2^-24 at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AGAIN
from gsqc.errors import BundleError
from gsqc.runtime.store import STATE, RunStore, require_state

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
FRACTION_BITS = 24
MODULES = {name: f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
"""The last part of a linear's name in Hugging Face's models, by the short name in a bundle."""


@dataclass(frozen=True)
class LinearAdapter:
    """The branch of one linear: y += alpha / rank · B·A·x.

    module  the linear's name in Hugging Face's model: model.layers.0.self_attn.q_proj
    layer   index of its decoder block          linear  its short name, of MODULES
    a       int32 [rank, k]     b  int32 [n, rank], both with 24 fraction bits
    """

    module: str
    layer: int
    linear: str
    a: Int32
    b: Int32


@dataclass(frozen=True)
class TrainedAdapter:
    """All branches of a run, and the number of steps they were trained for."""

    rank: int
    alpha: int
    linears: tuple[LinearAdapter, ...]
    steps: int

    @property
    def rounded(self) -> int:
        """How many numbers no float32 holds exactly."""
        return sum(
            int((to_int32(to_float32(p))[0] != p).sum()) for x in self.linears for p in (x.a, x.b)
        )


def to_float32(p: Int32) -> Float32:
    """int32 with 24 fraction bits -> float32; exact up to 1 in magnitude, else rounded to nearest,
    half to even.
    """
    return np.ldexp(p.astype(np.float64), -FRACTION_BITS).astype(np.float32)


def to_int32(values: npt.NDArray[Any]) -> tuple[Int32, int]:
    """Finite floats -> int32 with 24 fraction bits, and how many were rounded (half to even) or
    clamped below 64.

    A float32 of 2^-1 or more has no bits below 2^-24, and none is lost; a smaller one is off by
    2^-25 at most.
    """
    exact = np.ldexp(values.astype(np.float64), FRACTION_BITS)
    limit = 2.0**30 - 1
    p = np.rint(exact).clip(-limit, limit)
    return p.astype(np.int32), int((p != exact).sum())


def linear_modules(bundle: Bundle) -> dict[str, str]:
    """The short name of each linear with an adapter -> its module in layer 0, in the bundle's
    order.
    """
    found: dict[str, str] = {}
    for short in bundle.manifest.adapter.linears:
        suffix = f".{MODULES.get(short)}.weight"
        names = [name for name in bundle.manifest.base_kinds if name.endswith(suffix)]
        if len(names) != 1:
            raise BundleError(
                f"the bundle's manifest does not tell which weight {short} adapts", AGAIN
            )
        found[short] = names[0].removesuffix(".weight")
    return found


def in_layer(module: str, layer: int) -> str:
    """model.layers.0.self_attn.q_proj -> model.layers.7.self_attn.q_proj."""
    return re.sub(r"\.0\.", f".{layer}.", module, count=1)


def adapter_slots(bundle: Bundle) -> list[tuple[str, int, str]]:
    """(module, layer, short name) of each adapted linear; its state is `layers.{layer}.{short
    name}_a` and `…_b`.
    """
    modules = linear_modules(bundle)
    layers = range(bundle.manifest.model.layers)
    return [(in_layer(module, k), k, short) for k in layers for short, module in modules.items()]


def state_shape(bundle: Bundle, name: str) -> tuple[int, int]:
    """The shape of an adapter matrix by its state's name; BundleError if the bundle has no such
    state.
    """
    rank = bundle.manifest.adapter.rank
    tensor = bundle.plan.buffers.get("state", {}).get(name)
    if tensor is None or tensor.count % rank:
        raise BundleError(f"the bundle's state has no adapter matrix {name} of rank {rank}", AGAIN)
    return (rank, tensor.count // rank) if name.endswith("_a") else (tensor.count // rank, rank)


def read_adapter(bundle: Bundle, run: Path, name: str = STATE) -> TrainedAdapter:
    """The adapter that a run of this bundle has saved, as STATE or BEST. Raises RunError,
    BundleError.
    """
    require_state(run, name)
    saved = RunStore(run, bundle).load_state(bundle.plan.buffers.get("state", {}), name)
    assert saved is not None
    tensors, steps = saved
    linears = []
    for module, layer, short in adapter_slots(bundle):
        names = (f"layers.{layer}.{short}_{part}" for part in "ab")
        a, b = (tensors[name].reshape(state_shape(bundle, name)) for name in names)
        linears.append(LinearAdapter(module, layer, short, a, b))
    settings = bundle.manifest.adapter
    return TrainedAdapter(settings.rank, settings.alpha, tuple(linears), steps)

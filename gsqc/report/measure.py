# SPDX-License-Identifier: Apache-2.0
"""Measures what a page shows and a run's log does not hold.

That is memory by part, time by op, exponents and bits by layer, and answers to prompts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.base import VECTOR_KIND, in_layer, loss_text, losses_of
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AGAIN
from gsqc.bundle.plan import COPY
from gsqc.bundle.step_runs import step_runs
from gsqc.check.sequences import random_sequences
from gsqc.errors import BundleError
from gsqc.export.adapter import TrainedAdapter
from gsqc.models.block_layout import joined
from gsqc.models.ggml_blocks import LAYOUTS
from gsqc.numerics.bases import BASES
from gsqc.numerics.ops.embedding import master_row
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import evaluate
from gsqc.runtime.session import Session

Array = npt.NDArray[Any]
Histogram = dict[int, float]
_NOTHING = np.zeros(0, np.int32)
_PARTS = {
    "prepared": "base as operands",
    "state": "adapter and optimizer",
    "gradient": "sums of gradients, if several sequences",
    "cache": "caches, for generation most of all",
}


def memory_parts(bundle: Bundle) -> list[tuple[str, int]]:
    """What a session holds in memory by part, in bytes.

    The base's file is mapped, so it takes memory only as far as it is in use.
    """
    plan = bundle.plan
    parts = [("activations and scratch", plan.arena_bytes)]
    parts += [(name, plan.buffer_bytes(kind)) for kind, name in _PARTS.items()]
    parts.append(("inputs and outputs", plan.buffer_bytes("input", "output")))
    parts.append(("base (mapped file)", plan.buffer_bytes("base")))
    return [(name, size) for name, size in parts if size]


def load_adapter(session: Session, state: Mapping[str, Array]) -> None:
    """Give an open session the state `state`."""
    for name, tensor in session.state().items():
        np.copyto(tensor, state[name].reshape(-1), casting="no")


def time_by_op(session: Session) -> list[tuple[str, float]]:
    """The seconds by op of one step on a random sequence, the longest first.

    It changes the session's state.
    """
    sequences = random_sequences(session.bundle, 1, 0)[:1]
    session.step(sequences, Fraction(1, 10**6))  # a first step is slower: its memory is new
    total: dict[str, float] = {}
    parts = [
        (part, runs)
        for schedule, runs in step_runs(session.plan, 1).items()
        for part in session.executor.bound(schedule)
        if not part.is_left_out
    ]
    for part, runs in parts:
        for k, kernel in enumerate(part.kernels):
            start = time.perf_counter()
            part.program.run_one(k)
            seconds = time.perf_counter() - start
            name = "copy" if kernel == COPY else session.plan.kernels[kernel].op
            total[name] = total.get(name, 0.0) + runs * seconds
    return sorted(total.items(), key=lambda entry: -entry[1])


def _shares(values: Array) -> Histogram:
    """The share of each integer among values."""
    keys, counts = np.unique(values, return_counts=True)
    return {int(k): float(c) / max(values.size, 1) for k, c in zip(keys, counts, strict=True)}


def base_exponents(bundle: Bundle) -> list[Histogram]:
    """For each layer, the share of groups of the base's linears with a scale of 2^e to 2^(e+1)."""
    tensors = bundle.map_tensors("base.safetensors")
    layers: dict[int, list[Array]] = {}
    for first, kind in bundle.manifest.base_kinds.items():
        if kind == VECTOR_KIND:
            continue
        for layer in range(bundle.manifest.model.layers):
            name = in_layer(first, layer)
            if f"{name}.codes" in tensors:  # layers that differ may lack a weight
                layers.setdefault(layer, []).append(_scale_exponents(tensors, name))
    tensors.release_pages()
    return _by_layer(layers)


def _scale_exponents(tensors: Mapping[str, Array], name: str) -> Array:
    """⌊log2⌋ of the scales of a weight's groups, without scales that are zero."""
    if f"{name}.exponents" in tensors:
        return np.asarray(tensors[f"{name}.exponents"].astype(np.int32))
    m, e = (tensors.get(f"{name}.scale_{part}", _NOTHING).astype(np.int32) for part in "me")
    if not m.size or m.shape != e.shape:
        raise BundleError(f"the bundle has no scales of {name}", AGAIN)
    steps = tensors.get(f"{name}.steps")
    if steps is not None and steps.size % m.size == 0:
        count = steps.size // m.size
        m, e = np.repeat(m, count) * steps.astype(np.int32), np.repeat(e, count)
    there = m != 0
    return np.asarray(np.frexp(np.abs(m[there]).astype(np.float64))[1] - 1 + e[there])


def stored_as(bundle: Bundle) -> list[tuple[str, str, str, str]]:
    """Each weight of a layer: its name, its format, its stored bits per number with scales, and
    what was lost.
    """
    manifest, base = bundle.manifest, bundle.plan.buffers.get("base", {})
    rows = []
    for name, kind in manifest.base_kinds.items():
        layers = (in_layer(name, layer) for layer in range(manifest.model.layers))
        there = next((n for n in layers if any(key.startswith(f"{n}.") for key in base)), name)
        arrays = {k.rpartition(".")[2]: t for k, t in base.items() if k.startswith(f"{there}.")}
        arrays.pop("balance", None)  # no part of the weight
        size = sum(array.size_bytes for array in arrays.values())
        count = _numbers(kind, {key: array.count for key, array in arrays.items()})
        bits = f"{8 * size / count:.2f}" if count else "?"
        lost = loss_text(manifest.base, losses_of(name, manifest.base_losses))
        shown = "16 bits" if kind == VECTOR_KIND else lost
        rows.append((re.sub(r"^.*?\.0\.", "", name), kind, bits, shown))
    return rows


def _numbers(kind: str, counts: Mapping[str, int]) -> int:
    """How many numbers a weight has, from the elements of its arrays. 0 if they are not there."""
    kinds = kind.split("+")
    if "scale_m" in counts and all(k in LAYOUTS for k in kinds):
        return counts["scale_m"] * joined([LAYOUTS[k] for k in kinds]).unit
    return counts.get("codes", 0) * (2 if kind in BASES and BASES[kind].bits == 4 else 1)


def adapter_operands(adapter: TrainedAdapter, bits: int) -> tuple[list[Histogram], list[Histogram]]:
    """Shared exponents of the adapter, and bits that its operands use, for each layer.

    The adapter is taken in the form that matmuls read, rotated and in GSE-`bits`.
    """
    exponents: dict[int, list[Array]] = {}
    lengths: dict[int, list[Array]] = {}
    for linear in adapter.linears:
        for p in linear.matrices.values():
            gse = evaluate(quantise, [evaluate(master_row, [p], {})], {"bits": bits})
            groups, sizes = (gse.e - gse.d).reshape(-1), np.abs(gse.m.astype(np.int32))
            used = sizes.reshape(gse.d.size, -1).any(-1)
            exponents.setdefault(linear.layer, []).append(groups[used])
            bit_lengths = np.frexp(sizes.reshape(-1).astype(np.float64))[1]
            lengths.setdefault(linear.layer, []).append(bit_lengths)
    return _by_layer(exponents), _by_layer(lengths)


def _by_layer(values: Mapping[int, list[Array]]) -> list[Histogram]:
    return [_shares(np.concatenate(values[layer])) for layer in sorted(values)]

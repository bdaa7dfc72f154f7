# SPDX-License-Identifier: Apache-2.0
"""Reads the adapter of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.adapters.adapter import Adapter, LoraForm
from gsqc.adapters.linears import array_name, matrix_name, module_name, names_of_linears
from gsqc.adapters.several import describe, from_manifest
from gsqc.bundle.base import VECTOR_KIND, in_first_layer, in_layer
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AGAIN
from gsqc.errors import BundleError, ExportError
from gsqc.export.fixed_point import (
    FRACTION_BITS,
    Float32,
    Float64,
    Int32,
    to_float32,
    to_int32,
)
from gsqc.runtime.store import STATE, RunStore, require_state


@dataclass(frozen=True)
class LinearAdapter:
    """What was trained for one linear.

    settings  the kind and the settings of its adapter
    module    the linear's name in Hugging Face's model: model.layers.0.self_attn.q_proj
    layer     the index of its decoder block
    linear    its name (`gsqc.adapters.linears`)
    matrices  int32 with 24 fraction bits, by the names that the adapter's kind gives them
    arrays    the adapter's arrays that are not trained, flat, by their names
    has_bias  whether something is added to W·x
    """

    settings: Adapter
    module: str
    layer: int
    linear: str
    matrices: dict[str, Int32]
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    has_bias: bool = False

    def floats(self) -> dict[str, Float32]:
        """The matrices in float32."""
        return {name: to_float32(p) for name, p in self.matrices.items()}

    def exact(self) -> dict[str, Float64]:
        """The matrices in float64, which holds them exactly."""
        return {
            name: np.ldexp(p.astype(np.float64), -FRACTION_BITS)
            for name, p in self.matrices.items()
        }


@dataclass(frozen=True)
class TrainedAdapter:
    """All that a run has trained, and the number of steps.

    architecture  Hugging Face's model type
    """

    linears: tuple[LinearAdapter, ...]
    steps: int
    architecture: str

    def adapters(self) -> list[Adapter]:
        """The adapters with their settings, each once."""
        return list(dict.fromkeys(linear.settings for linear in self.linears))

    def describe(self) -> str:
        """The settings in a sentence, for people."""
        return describe(self.adapters())

    def numbers(self) -> list[Int32]:
        """Every matrix of every linear."""
        return [p for linear in self.linears for p in linear.matrices.values()]

    @property
    def rounded(self) -> int:
        """How many numbers float32 does not hold exactly."""
        return sum(int((to_int32(to_float32(p))[0] != p).sum()) for p in self.numbers())

    def as_lora(self) -> list[tuple[LinearAdapter, LoraForm]]:
        """A and B of each linear in float32. ExportError unless the adapter is of LoRA's form."""
        found = []
        for linear in self.linears:
            with fits_settings(linear):
                form = linear.settings.as_lora(linear.floats(), linear.arrays)
            if form is None:
                raise ExportError(
                    f"an adapter of the kind {linear.settings.kind} does not have the form of LoRA",
                    "export the merged model with --merged",
                )
            a, b = (np.ascontiguousarray(m, np.float32) for m in (form.a, form.b))
            found.append((linear, LoraForm(a, b, form.alpha)))
        return found


@contextmanager
def fits_settings(linear: LinearAdapter) -> Iterator[None]:
    """BundleError if what an adapter's kind makes of its matrices fails by their shapes."""
    try:
        yield
    except (ValueError, IndexError) as error:
        raise BundleError(
            f"the adapter of {linear.module} does not fit its settings: {error}", AGAIN
        ) from None


def merged_weight(w: Float32, linear: LinearAdapter) -> Float32:
    """W [rows, columns] with the adapter of its linear in it. BundleError if they do not fit."""
    with fits_settings(linear):
        merged = linear.settings.merge(w, linear.exact(), linear.arrays).astype(np.float32)
        return np.asarray(merged).reshape(w.shape)


def adapters_of(bundle: Bundle) -> dict[str, Adapter]:
    """The adapter of each linear of a bundle, by the linear's name. Raises BundleError."""
    part = bundle.manifest.adapter
    try:
        made = from_manifest(part.kind, part.settings, part.linears)
        found = {name: adapter for adapter in made for name in adapter.linears}
        return {name: found[name] for name in part.linears}
    except ValueError as error:
        raise BundleError(f"the bundle's adapter cannot be read: {error}", AGAIN) from None


def linear_modules(bundle: Bundle) -> dict[str, str]:
    """The module in layer 0 of each linear with an adapter, by its name, in bundle order."""
    if bundle.manifest.model.labels is not None:
        return _modules_of_encoder(bundle, in_head=False)
    found: dict[str, str] = {}
    for short in adapters_of(bundle):
        suffix = f".{module_name(short)}.weight"
        names = [name for name in bundle.manifest.base_kinds if name.endswith(suffix)]
        if len(names) != 1:
            raise BundleError(
                f"the bundle's manifest does not say which weight {short} adapts", AGAIN
            )
        found[short] = names[0].removesuffix(".weight")
    return found


def _modules_of_encoder(bundle: Bundle, *, in_head: bool) -> dict[str, str]:
    """The modules of a classifier's linears that have an adapter, by their names: those of layer 0,
    or those of the head, which has no number.
    """
    modules, chosen = encoder_modules(bundle, in_head=in_head), adapters_of(bundle)
    named = zip(names_of_linears(modules), modules, strict=True)
    return {name: module for name, module in named if name in chosen}


def encoder_modules(bundle: Bundle, *, in_head: bool) -> list[str]:
    """The modules of a classifier's linears, with an adapter or not: those of layer 0, or those of
    the head.
    """
    kinds = bundle.manifest.base_kinds
    coded = [name.removesuffix(".weight") for name, k in kinds.items() if k != VECTOR_KIND]
    return [name for name in coded if (in_layer(name, 1) == name) == in_head]


def _by_layer(bundle: Bundle) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each layer, and the modules of its linears as `linear_modules` names them. A
    classifier's head is the layer behind the last.
    """
    layers = bundle.manifest.model.layers
    yield from ((layer, linear_modules(bundle)) for layer in range(layers))
    if bundle.manifest.model.labels is not None:
        yield layers, _modules_of_encoder(bundle, in_head=True)


@dataclass(frozen=True)
class Slot:
    """A linear that has an adapter: its adapter, module, layer, name, and matrix shapes by name."""

    settings: Adapter
    module: str
    layer: int
    linear: str
    shapes: dict[str, tuple[int, int]]

    def state_name(self, matrix: str) -> str:
        """The name of a matrix in the state."""
        return f"layers.{self.layer}.{matrix_name(self.linear, matrix)}"


def adapter_slots(bundle: Bundle) -> list[Slot]:
    """The linears of a bundle that have an adapter. BundleError if the state lacks a matrix."""
    matrices, state = bundle.manifest.adapter.matrices, bundle.plan.buffers.get("state", {})
    settings_of, slots = adapters_of(bundle), []
    for layer, modules in _by_layer(bundle):
        for short, module in modules.items():
            settings, shapes = settings_of[short], {}
            # The names do not depend on the size of the linear.
            for part in settings.parameters(1, 1):
                name = f"layers.{layer}.{matrix_name(short, part)}"
                if name not in matrices:
                    raise BundleError(f"the bundle's manifest has no adapter matrix {name}", AGAIN)
                rows, columns = matrices[name].rows, matrices[name].columns
                if name not in state or state[name].count != rows * columns:
                    raise BundleError(f"the bundle's state has no adapter matrix {name}", AGAIN)
                shapes[part] = rows, columns
            slots.append(Slot(settings, in_layer(module, layer), layer, short, shapes))
    return slots


def _adapter_arrays(bundle: Bundle) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """The adapter's arrays that are not trained, by the module of their linear and by name."""
    between = f".weight.{array_name('')}"
    planned = {n: t for n, t in bundle.plan.buffers.get("base", {}).items() if between in n}
    held = bundle.map_tensors("base.safetensors", planned) if planned else {}
    found: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name in planned:
        module, _, array = name.partition(between)
        found.setdefault(module, {})[array] = held[name]
    return found


def read_adapter(bundle: Bundle, run: Path, name: str = STATE) -> TrainedAdapter:
    """The adapter that a run of this bundle has saved as STATE or BEST.

    Raises RunError, BundleError.
    """
    require_state(run, name)
    saved = RunStore(run, bundle).load_state(bundle.plan.buffers.get("state", {}), name)
    assert saved is not None
    tensors, steps = saved
    arrays_of = _adapter_arrays(bundle)
    linears = []
    for slot in adapter_slots(bundle):
        matrices = {n: tensors[slot.state_name(n)].reshape(s) for n, s in slot.shapes.items()}
        arrays = arrays_of.get(slot.module, {})
        has_bias = in_first_layer(f"{slot.module}.bias") in bundle.manifest.base_kinds
        place = slot.settings, slot.module, slot.layer, slot.linear
        linears.append(LinearAdapter(*place, matrices, arrays, has_bias))
    return TrainedAdapter(tuple(linears), steps, bundle.manifest.model.architecture)

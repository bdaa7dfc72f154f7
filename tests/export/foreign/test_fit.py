# SPDX-License-Identifier: Apache-2.0
"""A and B at the bundle's rank and scale: which numbers are exact, and what does not fit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError
from gsqc.export.adapter import adapter_slots
from gsqc.export.foreign.fit import FittedAdapter, fit_adapter
from gsqc.export.foreign.pairs import ForeignAdapter, Pair
from tests.export.foreign.conftest import ALPHA, RANK, SIZES, module, tiny_bundle

Q = module("q", 0)
OWN = Fraction(ALPHA, RANK)


def pair(short: str = "q", rank: int = RANK, scale: Fraction = OWN, seed: int = 0) -> Pair:
    """Random A and B with 20 fraction bits."""
    rng, (rows, columns) = np.random.default_rng(seed), SIZES[short]
    a = rng.integers(-(2**20), 2**20, (rank, columns)) / 2**20
    return Pair(a, rng.integers(-(2**20), 2**20, (rows, rank)) / 2**20, scale)


def fit(bundle: Bundle, pairs: dict[str, Pair]) -> FittedAdapter:
    initial = bundle.map_tensors("state.safetensors")
    slots, weights = adapter_slots(bundle), bundle.manifest.base_kinds
    return fit_adapter(ForeignAdapter("peft", pairs, ""), slots, initial, weights)


@pytest.mark.parametrize("scale", [Fraction(2), Fraction(1, 4), Fraction(6), Fraction(8, 3)])
def test_b_takes_the_quotient_of_the_scales(tiny: Bundle, scale: Fraction) -> None:
    """B is rounded once, half to even. A and a B of the bundle's scale are exact."""
    given = pair(scale=scale)
    fitted = fit(tiny, {Q: given})
    np.testing.assert_array_equal(
        fitted.tensors["layers.0.q_a"], np.ldexp(given.a, 24).astype(np.int32).reshape(-1)
    )
    exact = [Fraction(float(x)) * scale / OWN * 2**24 for x in given.b.reshape(-1)]
    assert fitted.tensors["layers.0.q_b"].tolist() == [round(x) for x in exact]
    assert fitted.rounded == sum(x.denominator > 1 for x in exact)
    assert (fitted.rounded == 0) == (scale.denominator in (1, 4))


def test_what_is_absent_begins_as_in_a_new_adapter(tiny: Bundle) -> None:
    """A is that of the bundle, and B is zero whatever the bundle has."""
    initial = tiny.map_tensors("state.safetensors")
    fitted = fit(tiny, {Q: pair(rank=2)})
    assert set(fitted.tensors) == set(initial)
    a = fitted.tensors["layers.0.q_a"].reshape(RANK, -1)
    np.testing.assert_array_equal(a[2:], initial["layers.0.q_a"].reshape(RANK, -1)[2:])
    b = fitted.tensors["layers.0.q_b"].reshape(-1, RANK)
    assert not b[:, 2:].any() and b[:, :2].all(axis=1).any()
    for name in set(initial) - {"layers.0.q_a", "layers.0.q_b"}:
        wanted = initial[name] if name.endswith("_a") else np.zeros_like(initial[name])
        np.testing.assert_array_equal(fitted.tensors[name], wanted)
    assert [note.split(":")[0] for note in fitted.notes] == [
        "its rank is 2, the bundle's 4",
        "13 of 14 linears have no weights in it (k+v+o+gate+up+down and others)",
    ]


def changed(part: str, values: Any) -> dict[str, Pair]:
    given = pair()
    matrices = {"a": given.a.copy(), "b": given.b.copy()}
    matrices[part].reshape(-1)[0] = values
    return {Q: Pair(matrices["a"], matrices["b"], given.scale)}


BAD: dict[str, tuple[dict[str, Pair], str, str]] = {
    "nothing": ({}, "no LoRA of any linear", "save the adapter again"),
    "a layer too many": (
        {module("q", 5): pair()},
        f"a LoRA of 1 linears that the bundle's does not have, first {module('q', 5)}",
        "another model",
    ),
    "a linear that the model lacks": (
        {"model.layers.0.self_attn.qkv_proj": pair()},
        "first model.layers.0.self_attn.qkv_proj",
        "another model",
    ),
    "the head": ({Q: pair(), "lm_head": pair()}, "a LoRA of lm_head, outside the layers", "merge"),
    "a larger rank": (
        {Q: pair(rank=6), module("q", 1): pair()},
        "the adapter's rank is 6, the bundle's 4",
        "--adapter lora:rank=6,alpha=12",
    ),
    "a rank beyond gsqc's": ({Q: pair(rank=300)}, "rank is 300", "ranks up to 256"),
    "columns": ({Q: pair("down")}, "A of model.layers.0.self_attn.q_proj has the shape", "damaged"),
    "rows": ({Q: pair("gate")}, "B of model.layers.0.self_attn.q_proj has the shape", "damaged"),
    "NaN": (changed("a", np.nan), f"A of {Q} holds infinities or NaN", "before that"),
    "64": (changed("b", 64.0), f"B of {Q} holds a weight of 64 or more", "a larger alpha"),
    "64 at the bundle's scale": (
        {Q: pair(scale=OWN * 100)},
        "64 or more at the bundle's scale",
        "a larger alpha",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit(tiny: Bundle, case: str) -> None:
    pairs, text, hint = BAD[case]
    with pytest.raises(ExportError) as error:
        fit(tiny, pairs)
    assert text in str(error.value) and hint in error.value.hint


def test_a_bundle_with_fewer_linears_names_those_to_compile_with(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "qv.gsqc", ("q", "v"))
    with pytest.raises(ExportError, match="a LoRA of 1 linears") as error:
        fit(bundle, {Q: pair(), module("k", 0): pair("k")})
    assert "--adapter lora:rank=4,alpha=8,linears=q+k+v" in error.value.hint

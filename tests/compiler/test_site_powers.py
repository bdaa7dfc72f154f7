# SPDX-License-Identifier: Apache-2.0
"""What calibration measures, against transformers, and the shifts that it makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.architectures.build import build
from benchmarks.architectures.families import BY_NAME
from gsqc.compiler.compile import step_options
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.compiler.site_powers import TOKENS_AT_ONCE, shifts_of, site_powers
from gsqc.models import model_ops as mo
from gsqc.models.capture import capture_model
from gsqc.passes.outline import Outline
from gsqc.passes.outline_blocks import outline_blocks
from gsqc.passes.sites import find_sites
from gsqc.passes.step import Step
from tests.toy_graph import Sizes, capture_toy

LENGTH = 16
SITES = {
    "self_attn.q_proj": ("self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": (),
    "mlp.gate_proj": ("mlp.up_proj",),
    "mlp.down_proj": (),
}
"""The linears that read what the first reads."""


def outlined(captured: Any) -> Outline:
    options = CompileOptions(Path("x.gsqc"), "numpy", bits=Bits(4, 5, 5))
    asked = step_options(options, balance=True)
    return outline_blocks(Step(captured.graph, lambda p, n: None, asked)).parts


def by_hooks(model: Any, records: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same from transformers' own modules, in 64 bits."""
    model = model.double()
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Any:
        def add(module: Any, inputs: Any, output: Any) -> None:
            squares = inputs[0].square().sum((0, 1))
            sums[name] = sums.get(name, 0) + squares / records.size

        return add

    for layer in range(2):
        for name in SITES:
            full = f"model.layers.{layer}.{name}"
            model.get_submodule(full).register_forward_hook(hook(full))
    with torch.no_grad():
        for record in records:
            model(input_ids=torch.from_numpy(record)[None], use_cache=False)
    found = {}
    for name, total in sums.items():
        first = name.removeprefix(f"model.layers.{name.split('.')[2]}.")
        every = [name, *(name.replace(first, other) for other in SITES[first])]
        weights = torch.cat([model.get_submodule(n).weight for n in every])
        found[f"{name}.weight"] = total.numpy(), weights.detach().square().sum(0).numpy()
    return found


@pytest.mark.parametrize(
    ("family", "records"),
    [
        ("llama-biases", 3),
        ("llama-biases", TOKENS_AT_ONCE // LENGTH + 5),
        ("mistral-window", 3),
    ],
)
def test_powers_are_those_of_the_float_model(family: str, records: int) -> None:
    """Grouped heads, and more records than run at once."""
    model = build(BY_NAME[family])
    tokens = np.random.default_rng(0).integers(0, 128, (records, LENGTH))
    captured = capture_model(model, 32)  # longer than a record
    told: list[str] = []
    found = site_powers(
        outlined(captured), captured.weights, captured.constants, tokens, told.append
    )
    wanted = by_hooks(model, tokens)
    assert set(found) == set(wanted)
    for name, powers in wanted.items():
        for got, right in zip(found[name], powers, strict=True):
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, right, rtol=1e-6)  # its rope tables have 24 bits
    assert told == ["calibrating, layer 1 of 2", "calibrating, layer 2 of 2"]


def test_shifts_are_the_roots_of_the_ratio_of_both_strengths() -> None:
    """Against the formula in decimal floats, column by column."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        x2, w2 = np.exp2(rng.uniform(-10, 2, 300)), np.exp2(rng.uniform(-3, 3, 300))
        x2[:6] *= 2.0**10
        got = shifts_of(x2, w2)
        assert (got.shape, got.dtype) == ((1, 300), np.int8)
        # s = 2^round(log2(x2 / w2) / 4): the exponents that simulate the format, rounded as torch.
        s = torch.round(0.25 * torch.log2(torch.tensor(x2 / w2))).numpy()
        assert s.max() - s.min() <= 7
        assert np.array_equal(got[0], s.max() - s)


def test_both_operands_have_equal_columns_afterwards() -> None:
    """Up to the rounding of s: the ratio of both powers has the fourth power of s."""
    rng = np.random.default_rng(2)
    x2, w2 = np.exp2(rng.uniform(-10, 10, 100)), np.exp2(rng.uniform(-2, 2, 100))
    shift = 4.0 ** shifts_of(x2, w2)[0]
    ratio = (x2 * shift) / (w2 / shift)
    assert ratio.max() / ratio.min() <= 16.001


def test_of_more_than_8_octaves_most_columns_are_served() -> None:
    octave = np.array([-20] * 3 + [0] * 50 + [2] * 40 + [5] * 30 + [30])
    got = shifts_of(16.0**octave, np.ones(len(octave)))[0]
    assert got.tolist() == [7] * 3 + [5] * 50 + [3] * 40 + [0] * 30 + [0]


def test_of_several_such_octaves_the_highest_count() -> None:
    assert shifts_of(16.0 ** np.array([0, 0, 20, 20]), np.ones(4)).tolist() == [[7, 7, 0, 0]]


def test_columns_that_are_always_zero() -> None:
    """They have no logarithm, and no say: the others are shifted as without them."""
    x2, w2 = np.array([0.0, 1.0, 16.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    assert shifts_of(x2, w2)[0, 1:3].tolist() == [1, 0]
    assert shifts_of(np.zeros(4), np.zeros(4)).tolist() == [[0] * 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_shift_nothing(bad: float) -> None:
    assert not shifts_of(np.array([1.0, bad, 4.0]), np.ones(3)).any()


def test_a_site_is_what_reads_the_same() -> None:
    graph = capture_toy(Sizes()).graph
    nodes = [n for n in graph.nodes if n.meta.get("block") == 0]
    sites = {w.meta["parameter"]: first.meta["parameter"] for w, first in find_sites(nodes).items()}
    start = "model.layers.0."
    for first, others in SITES.items():
        for name in (first, *others):
            assert sites[f"{start}{name}.weight"] == f"{start}{first}.weight"


def test_a_weight_that_reads_twice_joins_its_sites() -> None:
    graph = capture_toy(Sizes()).graph
    linears = [n for n in graph.nodes if n.target is mo.linear and n.meta.get("block") == 0]
    by_name = {n.args[1].meta["parameter"].split(".")[-2]: n for n in linears}
    by_name["o_proj"].replace_input_with(by_name["o_proj"].args[1], by_name["q_proj"].args[1])
    sites = find_sites(linears)
    assert sites[by_name["k_proj"].args[1]] is sites[by_name["o_proj"].args[1]]

# SPDX-License-Identifier: Apache-2.0
"""dropbp: what it leaves out, what it leaves as it is, and the gradients that remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.plan import COPY, Plan
from gsqc.bundle.plan_checks import check_plan
from gsqc.bundle.plan_reader import read_plan
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.pipeline import PIPELINE, run_pipeline, with_optional
from gsqc.errors import BundleError, OptionError
from gsqc.option_texts import parse_options
from gsqc.passes.optional import parse_pass
from gsqc.passes.optional.dropbp import KEPT, DropBP
from gsqc.passes.step import Step
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=4, heads=2, kv_heads=1, head_dim=16, ffn=32, vocabulary=40
)


def dropping_step(sizes: Sizes = SIZES, **changes: Any) -> Step:
    step = toy_step(sizes, adapter=Lora(2, 4, ("q", "down")), prompt_chunk=1, **changes)
    return run_pipeline(step, with_optional([DropBP("0.5")]))


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Every block but the last runs forward again."""
    return dropping_step(recompute="blocks").plan


def test_the_forward_pass_is_whole(plan: Plan) -> None:
    for schedule in ("evaluate", "decode", "prepare"):
        assert not plan.schedules[schedule].guards
    train = plan.schedules["train"]
    calls = [name for name, _ in train.calls]
    assert calls[0] == "choose_blocks"
    first = calls.index("head_backward") + 1
    assert set(train.guards) == set(range(first, len(calls)))


@pytest.mark.parametrize("schedule", ["train", "gradient"])
def test_all_that_a_block_does_has_its_guard(plan: Plan, schedule: str) -> None:
    """From the last block to the first: forward again, backward, the copies, the updates."""
    found = plan.schedules[schedule]
    layers = [guard.offset for _, guard in sorted(found.guards.items())]
    assert layers == sorted(layers, reverse=True)
    assert set(layers) == set(range(SIZES.layers))
    names = {
        k: [found.calls[n][0] for n, g in found.guards.items() if g.offset == k] for k in (0, 3)
    }
    assert names[0].count("block_forward") == 1
    assert names[3].count("block_forward") == 0
    assert names[0].count("block_backward") == 1
    assert COPY in names[0]
    updates = [name for name in names[0] if name.startswith("update_")]
    assert len(updates) == (4 if schedule == "train" else 0)


@pytest.mark.parametrize("schedule", ["clip", "update"])
def test_matrices_of_a_block_have_its_guard(plan: Plan, schedule: str) -> None:
    found = plan.schedules[schedule]
    for number, (name, bindings) in enumerate(found.calls):
        guard = found.guards.get(number)
        owners = {r.name.split(".")[1] for r in bindings.values() if r.name.startswith("layers.")}
        if owners:
            assert guard is not None and owners == {str(guard.offset)}, (name, owners)


@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize("recompute", ["none", "blocks"])
def test_the_plan_goes_through_its_file(recompute: str, kinds: int) -> None:
    made = dropping_step(replace(SIZES, kinds=kinds), recompute=recompute).plan
    check_plan(made)
    assert read_plan(made.to_json()).schedules == made.schedules


def test_a_plan_without_it_has_no_guard() -> None:
    step = run_pipeline(toy_step(SIZES, adapter=Lora(2, 4, ("q",)), prompt_chunk=1))
    assert not any(s.guards for s in step.plan.schedules.values())
    assert all(len(c) == 2 for s in step.plan.to_json()["schedules"].values() for c in s["calls"])
    assert "step_number" not in step.plan.buffers["input"]


def test_a_pass_that_does_nothing_is_found() -> None:
    idle = replace(DropBP("0.5").graph_pass(), function=lambda step: step)
    passes = tuple(
        p for one in PIPELINE for p in ((one, idle) if one.name == "add_clipping" else (one,))
    )
    with pytest.raises(AssertionError, match="nothing chooses"):
        run_pipeline(toy_step(SIZES), passes)


def test_a_guard_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that ran after a backward pass that did not would read what lies in the arena."""
    from gsqc.passes import build_schedules

    own = build_schedules._Schedules._update

    def always(self: Any, schedule: Any, matrix: Any, *, sums: bool) -> None:
        own(replace(self, step=replace(self.step, choice=None)), schedule, matrix, sums=sums)

    monkeypatch.setattr(build_schedules._Schedules, "_update", always)
    with pytest.raises(AssertionError, match="may not have been written"):
        dropping_step()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dropout", "unknown kind 'dropout'"),
        ("dropbp:share=1", "unknown setting 'share'"),
        ("dropbp:rate=2", "--rate 2.* is not a number from 0 to 1"),
        ("dropbp:rate=-1", "--rate -1 is not a number from 0 to 1"),
        ("dropbp:rate=half", "--rate half is not a number from 0 to 1"),
        ("dropbp:rate=0.1,rate=0.2", "rate is given twice"),
        ("dropbp:rate=1", "trains nothing, its rate must be below 1"),
    ],
)
def test_a_wrong_text_is_one_error(text: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        parse_options(CompileOptions, {"output": Path("x.gsqc"), "passes": [text]})


def test_a_pass_is_given_once() -> None:
    with pytest.raises(OptionError, match="--pass dropbp is given twice"):
        CompileOptions(Path("x.gsqc"), passes=(DropBP("0.1"), DropBP("0.2")))
    with pytest.raises(OptionError, match="--pass dropbp is no list"):
        parse_options(CompileOptions, {"output": Path("x.gsqc"), "passes": "dropbp"})


def test_a_rate_has_one_text() -> None:
    made = parse_options(CompileOptions, {"output": Path("x.gsqc"), "passes": ["dropbp:rate=0.50"]})
    assert [str(one) for one in made.passes] == ["dropbp:rate=0.5"]
    assert str(parse_pass("dropbp")) == "dropbp:rate=0.5"


WRONG: dict[str, tuple[Any, str]] = {
    "unknown": (["nothing", 0, 1], "no input and no output"),
    "an activation": (["dx.m", 0, 1], "no input and no output"),
    "a state": (["layers.0.q_a", 0, 1], "no input and no output"),
    "outside": ([KEPT, SIZES.layers, 1], "leaves the tensor"),
    "two": ([KEPT, 0, 2], "not one int32"),
    "none": ([KEPT, 0, 0], "not one int32"),
    "no list": ("kept_blocks", "not \\[name, offset, count\\]"),
    "negative": ([KEPT, -1, 1], "no valid number"),
}


@pytest.mark.parametrize(("guard", "problem"), WRONG.values(), ids=WRONG)
def test_a_strangers_guard_is_refused(plan: Plan, guard: Any, problem: str) -> None:
    data = plan.to_json()
    data["schedules"]["train"]["calls"][-1][2] = guard
    with pytest.raises(BundleError, match=problem):
        read_plan(data)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_call_has_two_parts_or_three(plan: Plan, parts: int) -> None:
    data = plan.to_json()
    call: Sequence[Any] = data["schedules"]["train"]["calls"][-1]
    data["schedules"]["train"]["calls"][-1] = [*call, call[2]][:parts]
    with pytest.raises(BundleError, match="no list of 2 or 3"):
        read_plan(data)


def test_a_guard_is_of_int32(plan: Plan) -> None:
    data = plan.to_json()
    data["buffers"]["input"]["narrow"] = ["int8", 1, -1]
    data["schedules"]["train"]["calls"][-1][2] = ["narrow", 0, 1]
    with pytest.raises(BundleError, match="narrow is not one int32"):
        read_plan(data)


def test_the_choice_is_of_seed_step_and_block() -> None:
    """Against the generator written down once more, in Python's integers."""
    from gsqc.numerics.ops.kept_blocks import kept_blocks
    from gsqc.numerics.ops.registry import evaluate

    def noise(counter: int, index: int) -> int:
        x = counter ^ index
        high, low = x >> 16, x & 0xFFFF
        for k, multiplier in enumerate((0x6487, 0x7A35, 0x58B7, 0x6C8F), 1):
            mixed = (low ^ (0x9E37 * k & 0xFFFF)) * multiplier
            high, low = low, high ^ (mixed >> 11 & 0xFFFF)
        return (high & 0x7FFF) << 16 | low

    seed, threshold = 5 << 31 | 7, 3 << 28
    for step in (1, 2, 12345):
        key = 0
        for part in (7, 5, 2**30, step):
            key = noise(key, part)
        expected = [int(noise(key, noise(0, k)) >= threshold) for k in range(30)]
        attributes = {"seed": seed, "threshold": threshold, "blocks": 30}
        got = evaluate(kept_blocks, [np.array([[step]], np.int32)], attributes)
        assert got.tolist() == [expected]


def test_blocks_are_kept_as_often_as_the_rate_says() -> None:
    """12,000 draws: the share within 4 of its standard deviations, and no pattern in them."""
    from gsqc.numerics.ops.kept_blocks import kept_blocks
    from gsqc.numerics.ops.registry import evaluate

    attributes = {"seed": 1, "threshold": int(0.3 * 2**31), "blocks": 30}
    steps = (np.array([[k]], np.int32) for k in range(1, 401))
    table = np.array([evaluate(kept_blocks, [k], attributes)[0] for k in steps])
    assert abs(table.mean() - 0.7) < 4 * (0.21 / 12000) ** 0.5
    # A block of 400 draws has a deviation of 0.023, and the widest of 30 is rarely beyond 4.
    assert np.abs(table.mean(0) - 0.7).max() < 4 * (0.21 / 400) ** 0.5
    for a, b in ((table[1:], table[:-1]), (table[:, 1:], table[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / 11_600**0.5

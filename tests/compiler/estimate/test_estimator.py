# SPDX-License-Identifier: Apache-2.0
"""Memory, disk, work and time of settings; what is measured is used, and what is not follows from
its work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import gsqc.compiler.estimate.estimator
from gsqc.adapters.lora import Lora
from gsqc.compiler.estimate.estimator import Estimator, other_settings, shorter_settings
from gsqc.compiler.estimate.memory import MemoryNeeds
from gsqc.compiler.estimate.probe import probe, reference_rates, step_seconds
from gsqc.compiler.estimate.shallow import capture_shallow, open_shallow
from gsqc.compiler.estimate.work import kernel_work, step_calls
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.pipeline import Step
from gsqc.errors import TargetError
from gsqc.numerics.ops.registry import Kind
from gsqc.targets import NATIVE, resolve_target
from tests.compiler.estimate.conftest import LAYERS

OPTIONS = CompileOptions(Path("x.gsqc"), adapter=Lora(4, 8), sequence_length=16, recompute="none")


@pytest.fixture(scope="module")
def step(deep_model: Path) -> Step:
    return capture_shallow(*open_shallow(str(deep_model), OPTIONS), 16).plan(OPTIONS)


def test_the_products_of_a_step_are_those_of_the_model(step: Step) -> None:
    """Every linear forward, and backward dx of all; the adapter's, attention's and the head's are
    on top.
    """
    work, calls = kernel_work(step.kernels), step_calls(step.plan, 1)
    products = sum(
        n * work[name].amount for name, n in calls.items() if work[name].kind is Kind.MATMUL
    )
    weights = [t.count for name, t in step.plan.buffers["prepared"].items() if name.endswith(".m")]
    assert len(weights) >= 2 * 7 * LAYERS
    assert 16 * sum(weights) <= products <= 2 * 16 * sum(weights)


def test_a_step_of_several_sequences_is_their_gradients_and_one_update(step: Step) -> None:
    one, three = step_calls(step.plan, 1), step_calls(step.plan, 3)
    work = kernel_work(step.kernels)

    def matmuls(calls: Counter[str]) -> int:
        return sum(n for name, n in calls.items() if work[name].kind is Kind.MATMUL)

    assert matmuls(three) == 3 * matmuls(one)
    updates = sum(n for name, n in one.items() if name.startswith("adamw"))
    assert updates == sum(n for name, n in three.items() if name.startswith("adamw")) == 14 * LAYERS


@pytest.mark.needs_target("llvm")
def test_a_probe_measures_the_heaviest_kernels_and_rates_for_the_others(step: Step) -> None:
    rates = probe(step, 1, resolve_target(NATIVE))
    assert rates.measured
    assert len(rates.seconds) >= 12
    assert all(1e-7 < seconds < 1 for seconds in rates.seconds.values())
    assert all(1e6 < rate < 1e13 for rate in rates.per_second.values())
    assert 1e-4 < step_seconds(step, 1, rates) < step_seconds(step, 3, rates) < 60


def test_seconds_follow_from_work(step: Step) -> None:
    rates = reference_rates()
    halved = replace(
        rates,
        per_second={k: v / 2 for k, v in rates.per_second.items()},
        hash_per_second=rates.hash_per_second / 2,
    )
    assert step_seconds(step, 1, halved) == pytest.approx(
        2 * step_seconds(step, 1, rates)
    )  # floats: rounding only


def test_memory_is_the_plan_s_and_the_process_s() -> None:
    assert MemoryNeeds(1, 2, 3, 4, 5, process=100).planned == 15
    assert MemoryNeeds(1, 2, 3, 4, 5, process=100).peak == 115


def test_estimates(deep_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object) -> None:
        raise TargetError("linking needs cc, which is not installed", "install a C compiler (gcc)")

    monkeypatch.setattr(gsqc.compiler.estimate.estimator, "probe", no_compiler)
    estimator = Estimator(str(deep_model), OPTIONS)
    asked = estimator.estimate(OPTIONS, measure=True)
    assert (asked.measured, estimator.no_probe) == (
        False,
        "linking needs cc, which is not installed",
    )
    chosen = [o for o in other_settings(OPTIONS) if (o.weights, o.recompute) != ("small", "blocks")]
    others = {
        (o.options.weights, o.options.recompute): o for o in map(estimator_of(estimator), chosen)
    }
    assert others["fast", "none"] is asked
    assert others["small", "none"].memory.planned < asked.memory.planned
    assert others["small", "none"].seconds > asked.seconds
    assert others["fast", "blocks"].seconds > asked.seconds
    batch = estimator.estimate(replace(OPTIONS, batch=2), measure=False)
    assert batch.memory.gradient > 0 == asked.memory.gradient
    assert asked.fits(1 << 20)
    assert not asked.fits(1)


def estimator_of(estimator: Estimator):  # type: ignore[no-untyped-def]
    return lambda options: estimator.estimate(options, measure=False)


def test_shorter_settings_end() -> None:
    options = replace(OPTIONS, sequence_length=200, batch=4)
    made = [(o.batch, o.sequence_length, o.weights, o.recompute) for o in shorter_settings(options)]
    assert made == [(1, n, "small", "blocks") for n in (200, 100, 50)]

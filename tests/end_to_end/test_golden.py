# SPDX-License-Identifier: Apache-2.0
"""A compiled bundle carries the digests of its first steps, and wrong kernels do not give them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.check import first_digests
from gsqc.check.check import run_check
from gsqc.check.first_digests import take_first_digests
from gsqc.check.golden import own_golden
from gsqc.errors import TargetError
from gsqc.runtime import session
from gsqc.targets.interface import Target
from gsqc.targets.kernels import Kernel, plan_kernels
from gsqc.targets.llvm import bundle_code
from gsqc.targets.registry import find_target, resolve_target
from gsqc.targets.retarget import Retargeting, retarget
from tests.check.faulty import Faulty

CONSTANT_FAULT = 1 << 24


def gate_kernel(plan: Plan) -> str:
    """The kernel of silu_gate that a training step runs; generation has others."""
    called = (name for name, _ in plan.functions["block_forward"].calls)
    return next(name for name in called if plan.kernels[name].op == "silu_gate")


def test_it_carries_the_digests_of_its_code(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    golden = own_golden(opened)
    assert golden is not None
    assert [opened.manifest.golden.target] == list(opened.manifest.targets)
    result = run_check(bundle, ["numpy", "native"], 3)
    assert list(golden.steps) == result.targets["numpy"] == result.targets["native"]
    assert [c.difference for c in result.golden] == [None]
    assert result.passed


def test_wrong_kernels_are_found(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = gate_kernel(Bundle.open(bundle).plan)
    load = session.load_kernels
    monkeypatch.setattr(
        session, "load_kernels", lambda b, p, target: Faulty(load(b, p, target), faulty)
    )
    result = run_check(bundle, ["native"], 3)
    difference = result.golden[0].difference
    assert difference is not None
    assert (difference.step, difference.target, difference.changed) == (1, "native", "machine")
    assert not result.passed


@pytest.mark.slow
def test_code_that_was_compiled_wrong_is_found(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong constant in code for another CPU. The bundle with that code keeps the digests."""

    def with_fault(plan: Plan) -> list[Kernel]:
        kernels = plan_kernels(plan)
        name = gate_kernel(plan)
        nodes = next(k for k in kernels if k.name == name).trace.nodes
        next(n for n in nodes if n.operator == "mulc").attributes["constant"] ^= CONSTANT_FAULT
        return kernels

    monkeypatch.setattr(bundle_code, "plan_kernels", with_fault)
    opened = Bundle.open(bundle)
    wrong = tmp_path / "wrong.gsqc"
    retarget(opened, find_target("x86-64-v2"), wrong, Retargeting(only=True))
    again = Bundle.open(wrong)
    assert again.manifest.golden == opened.manifest.golden
    result = run_check(wrong, ["native"], 3)
    assert result.golden[0].difference is not None
    assert result.golden[0].difference.step == 1
    assert not result.passed


def test_code_for_this_machine_takes_the_steps_of_a_bundle_for_another(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Bundle.open(bundle)
    made: list[str] = []

    def refuse(bundle: Bundle, *_: object) -> object:
        raise TargetError("another kind of machine", "take another")

    def open_made(bundle: Bundle, target: Target, folder: Path) -> tuple[Path, None]:
        made.append(target.name)
        monkeypatch.undo()
        return bundle.path, None

    monkeypatch.setattr(session, "load_kernels", refuse)
    monkeypatch.setattr(first_digests, "open_checked", open_made)
    golden = take_first_digests(bundle, say=print)
    assert made == [resolve_target("native")]
    assert opened.manifest.golden is not None
    assert golden == replace(opened.manifest.golden, target=made[0])

# SPDX-License-Identifier: Apache-2.0
"""check finds the first tensor that differs, and never counts a target that did not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.check import steppers
from gsqc.check.check import run_check
from gsqc.check.sequences import random_sequences
from gsqc.errors import OptionError, TargetError
from tests.runtime.small_bundle import VOCABULARY, FakeSession, write_bundle


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(steppers, "Session", FakeSession)
    return write_bundle(tmp_path / "small.gsqc")


def test_equal_targets(bundle: Path) -> None:
    result = run_check(bundle, ["numpy", "native"], 3)
    assert result.equal
    assert result.first_difference is None
    assert result.targets["numpy"] == result.targets["native"]
    assert len(set(result.targets["numpy"])) == 3
    alone = run_check(bundle, ["numpy"], 3, seed=1)
    assert alone.targets["numpy"] != result.targets["numpy"]
    assert alone.equal is None


def test_the_first_difference_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSession, "wrong_target", "native")
    result = run_check(bundle, ["numpy", "native"], 3)
    assert not result.equal
    assert [len(digests) for digests in result.targets.values()] == [2, 2]
    difference = result.first_difference or {}
    assert (difference["step"], difference["tensor"], difference["index"]) == (2, "layers.0.q_a", 5)
    assert difference["values"]["native"] == difference["values"]["numpy"] + 1


def test_a_target_that_cannot_run_is_never_equal(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses(FakeSession):
        def __init__(self, *args: Any, target: str | None = None, **kwargs: Any) -> None:
            if target == "native":
                raise TargetError("no such CPU here", "use another machine")
            super().__init__(*args, target=target, **kwargs)

    monkeypatch.setattr(steppers, "Session", Refuses)
    result = run_check(bundle, ["numpy", "native"], 1)
    assert result.equal is None
    assert list(result.targets) == ["numpy"]
    assert "no such CPU here" in result.not_run["native"]


def test_a_name_that_is_no_target(bundle: Path) -> None:
    with pytest.raises(OptionError, match="unknown target npu"):
        run_check(bundle, ["numpy", "npu"], 1)


@pytest.mark.parametrize(
    ("targets", "steps"), [([], 1), (["numpy"], 0), (["numpy", ""], 1), (["numpy"] * 2, 1)]
)
def test_nothing_to_check(bundle: Path, targets: list[str], steps: int) -> None:
    with pytest.raises(OptionError):
        run_check(bundle, targets, steps)


def test_random_batches_are_in_range_and_differ(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    batches = [random_sequences(opened, step, seed=0) for step in (1, 2)]
    sequences = [s for batch in batches for s in batch]
    assert len({s.tokens.tobytes() for s in sequences}) == len(sequences)
    for s in sequences:
        assert min(s.tokens.min(), s.labels.min()) >= 0
        assert max(s.tokens.max(), s.labels.max()) < VOCABULARY
        assert 0 < s.weighted_tokens < len(s.tokens)

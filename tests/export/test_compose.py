# SPDX-License-Identifier: Apache-2.0
"""Sums of runs: exact, rounded once, and a run minus itself adds nothing to the base."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.errors import ExportError, OptionError
from gsqc.export.compose import compose, parse_sum
from gsqc.runtime.store import RunStore
from tests.cli.run_command import run_text


@pytest.mark.parametrize(
    ("text", "factors"),
    [
        ("a", {"a": 1}),
        ("-a", {"a": -1}),
        ("a + 0.5*b - c", {"a": 1, "b": Fraction(1, 2), "c": -1}),
        (" 1/3 * a-2*b_2 ", {"a": Fraction(1, 3), "b_2": -2}),
        ("a+a - 0.25*a", {"a": Fraction(7, 4)}),
    ],
)
def test_sums_are_read(text: str, factors: dict[str, Fraction]) -> None:
    assert parse_sum(text) == factors


@pytest.mark.parametrize(
    "text",
    ["", "a b", "a +", "2", "a * 2", "1/0*a", "1e999*a", "2001*a", "a + (b)", "ä", "1/2/3*a"],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(OptionError) as raised:
        parse_sum(text)
    assert "--sum" in raised.value.hint


def save_run(bundle: Bundle, path: Path, seed: int, bits: int = 20) -> dict[str, np.ndarray]:
    """A run with random numbers, and these."""
    draw, state = np.random.default_rng(seed), bundle.plan.buffers["state"]
    initial = bundle.map_tensors("state.safetensors", state)
    tensors = {name: np.array(initial[name]).reshape(-1) for name in state}
    for name in bundle.manifest.adapter.matrices:
        tensors[name] = draw.integers(-(2**bits), 2**bits, tensors[name].shape).astype(np.int32)
    store = RunStore(path, bundle)
    store.begin({})
    store.save_state(tensors, 3)
    return tensors


def test_a_sum_is_exact_and_rounded_once(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    runs = {name: save_run(opened, tmp_path / name, k) for k, name in enumerate("abc")}
    factors = parse_sum("1/3*a + 0.7*b - 2*c")
    places = {name: tmp_path / name for name in runs}
    made = compose(opened, places, factors)
    assert set(made) == set(opened.manifest.adapter.matrices)
    for name, got in made.items():
        # A begins at random and is added by the size of the factors, B begins with zeros.
        signs = {k: f if name.endswith("_b") else abs(f) for k, f in factors.items()}
        for index in range(0, got.size, 7):
            exact = sum(f * int(runs[k][name][index]) for k, f in signs.items())
            assert got[index] == floor(exact + Fraction(1, 2))


def test_a_run_less_itself_is_the_base(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    save_run(opened, tmp_path / "a", 1)
    made = compose(opened, {"a": tmp_path / "a"}, parse_sum("a - a"))
    assert not any(values.any() for name, values in made.items() if name.endswith("_b"))


def test_what_does_not_fit_is_refused(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    save_run(opened, tmp_path / "a", 1, bits=29)
    places = {"a": tmp_path / "a"}
    with pytest.raises(ExportError, match="64 or more"):
        compose(opened, places, parse_sum("9*a"))
    with pytest.raises(OptionError, match="64 bits"):
        compose(opened, places, parse_sum("999*a + 1/999999937*a + 1/999999929*a"))
    with pytest.raises(OptionError, match="no --part is called b"):
        compose(opened, places, parse_sum("a + b"))
    with pytest.raises(OptionError, match="a is not in --sum"):
        compose(opened, {**places, "b": tmp_path / "a"}, parse_sum("b"))


def test_the_command_begins_a_run(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Bundle.open(bundle)
    first, second = (save_run(opened, tmp_path / name, k) for k, name in enumerate("ab"))
    command = ["compose", bundle, "--run", tmp_path / "sum", "--sum", "a + b"]
    parts = ["--part", f"a={tmp_path / 'a'}", "--part", f"b={tmp_path / 'b'}"]
    code, _, errors = run_text(capsys, *command, *parts)
    assert code == 0, errors
    tensors, steps = RunStore(tmp_path / "sum", opened).load_state(opened.plan.buffers["state"])
    assert steps == 0
    for name in opened.manifest.adapter.matrices:
        np.testing.assert_array_equal(tensors[name], first[name] + second[name])
    code, _, errors = run_text(capsys, *command, *parts)
    assert code == 2 and "already holds a state" in errors

# SPDX-License-Identifier: Apache-2.0
"""zo: weights come back to the bit, noise is noise, and updates are those of exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from gsqc.errors import OptionError
from gsqc.numerics.ops.noise import stream_key
from gsqc.numerics.ops.registry import evaluate
from gsqc.numerics.optim import make_optimizer, parse_optimizer
from gsqc.numerics.optim.zo import LARGEST_MOVE, Zo, perturb, zo

SHAPE = (16, 576)


def number(value: int) -> Any:
    return np.array([[value]], np.int32)


def moved(p: Any, key: int, step: int, query: int, times: int, epsilon_bits: int = 8) -> Any:
    values = [p, number(key), number(step), number(query), number(times)]
    return evaluate(perturb, values, {"epsilon_bits": epsilon_bits})


def signs(key: int, step: int, query: int) -> Any:
    return moved(np.zeros(SHAPE, np.int32), key, step, query, 1, 4) / 2**20


@pytest.mark.parametrize("epsilon_bits", [4, 8, 20])
def test_weights_come_back_to_the_bit(epsilon_bits: int) -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(1 - 2**30, 2**30, SHAPE).astype(np.int32)
    start[0], start[1] = 1 - 2**30, 2**30 - 1  # the largest that an update leaves
    p = start
    for times in (1, -2, 1):
        p = moved(p, 12345, 7, 3, times, epsilon_bits)
    assert (p == start).all()
    there = moved(start, 12345, 7, 3, 1, epsilon_bits).astype(np.int64) - start
    assert set(np.unique(there)) == {-(2 ** (24 - epsilon_bits)), 2 ** (24 - epsilon_bits)}


def test_noise_of_other_keys_steps_queries_and_places_has_nothing_in_common() -> None:
    """Each mean of n products of ±1 lies within five of its standard deviations, 1/√n."""
    limit = 5 / math.sqrt(math.prod(SHAPE))
    keys = [stream_key(0, stream) for stream in range(3)]
    known = [signs(key, step, q) for key in keys for step in (1, 2, 3) for q in (0, 1)]
    for z in known:
        assert set(np.unique(z)) == {-1, 1}
        assert abs(z.mean()) < limit
        assert abs((z[:, 1:] * z[:, :-1]).mean()) < limit
        assert abs((z[1:] * z[:-1]).mean()) < limit
    assert all(abs((a * b).mean()) < limit for a, b in combinations(known, 2))


def test_the_update_is_rounded_once() -> None:
    rng = np.random.default_rng(1)
    p = rng.integers(-(2**24), 2**24, SHAPE).astype(np.int32)
    moves = rng.integers(-(2**16), 2**16, (1, 4)).astype(np.int32)
    decay = (549755814, -35)
    got = evaluate(zo, [p, number(9), number(5), moves, *map(number, decay)], {})
    step = sum(signs(9, 5, q) * int(moves[0, q]) for q in range(4))
    exact = p - step / 16 - p * (decay[0] * 2.0 ** decay[1])
    # The decay is rounded to 4 bits below a weight's own, and then the sum is.
    assert np.abs(got - exact).max() <= 0.5 + 1 / 16
    still = evaluate(zo, [p, number(9), number(5), moves, number(0), number(0)], {})
    assert (still == np.floor(p - step / 16 + 0.5 - 1 / 32)).all()


@pytest.mark.parametrize("difference", [0, 1, -1, 2**40 + 12345, -(2**40) - 12345, 2**62, -(2**62)])
@pytest.mark.parametrize("rate", ["1e-9", "1e-4", "1"])
def test_moves_are_those_of_exact_fractions(difference: int, rate: str) -> None:
    """move = rate · g / queries with 28 fraction bits, where g is the difference of the mean losses
    over 2ε.
    """
    optimizer, weight = Zo(queries=2, epsilon_bits=8), 24 << 14
    inputs = optimizer.step_inputs(Fraction(rate), Fraction(0), 1, weight)
    g = Fraction(difference, 2**30) / Fraction(weight, 2**14) / (2 * Fraction(1, 2**8))
    exact = Fraction(rate) * g / 2 * 2**28
    limit = LARGEST_MOVE // 2
    (got,) = optimizer.moves(inputs, [difference])
    expected = max(-limit, min(math.floor(exact + Fraction(1, 2)), limit))
    # The factor that the difference is multiplied by has 30 bits.
    assert abs(got - expected) <= 1 + abs(expected) / 2**29


def test_a_negative_move_is_rounded_half_up() -> None:
    optimizer = Zo(queries=1)
    inputs = {"learning_rate_m": 2**29, "learning_rate_e": -30}  # one half
    assert optimizer.moves(inputs, [3, -3, 2, -2, 0]) == [2, -1, 1, -1, 0]
    inputs = {"learning_rate_m": 2**29, "learning_rate_e": -4096}
    assert optimizer.moves(inputs, [2**62, -(2**62)]) == [0, 0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lion", "unknown kind 'lion'"),
        ("zo:queries=0", "queries 0 is not a whole number from 1 to 16"),
        ("zo:queries=x,epsilon_bits=3", "epsilon_bits 3 is not a whole number from 4 to 20"),
        ("zo:queries=17", "from 1 to 16"),
        ("zo:epsilon=1", "'epsilon'"),
        ("adamw:beta=1", "'beta'"),
    ],
)
def test_wrong_settings_are_named(text: str, problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        parse_optimizer(text)


def test_settings_are_read_and_written() -> None:
    assert str(parse_optimizer("zo:queries=2")) == "zo:queries=2,epsilon_bits=8"
    assert str(parse_optimizer("adamw")) == "adamw"
    assert make_optimizer("zo", {"queries": 2, "epsilon_bits": 8}) == Zo(queries=2)
    for settings in ({"queries": 2}, {"queries": 99, "epsilon_bits": 8}):
        with pytest.raises(ValueError, match=r"settings of zo|from 1 to 16"):
            make_optimizer("zo", settings)

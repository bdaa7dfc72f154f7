# SPDX-License-Identifier: Apache-2.0
"""One text has one loss: alone, padded, in front of another text, in a bundle of any length, and
token by token in generation. Not a bit differs.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from gsqc.compiler.options import Bits
from gsqc.numerics.formats import Row
from gsqc.numerics.ops.cross_entropy import LEAST_OCTAVE
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.runtime.executor import Executor
from gsqc.runtime.token_reader import TokenReader
from tests.toy import Toy, build_toy
from tests.toy_graph import Sizes
from tests.toy_training import open_executor

LENGTHS = (40, 71, 96)
SLOW = pytest.mark.slow
BITS = (Bits(4, 8, 8), Bits(4, 5, 5))


@cache
def toy(tokens: int, bits: Bits) -> Toy:
    """The same weights for every length. Prompts are read by 7 tokens."""
    return build_toy(sizes=Sizes(tokens=tokens, layers=2), bits=bits, prompt_chunk=7)


@cache
def opened(tokens: int, bits: Bits) -> Executor:
    return open_executor(toy(tokens, bits))[0]


def losses(executor: Executor, texts: list[np.ndarray], padding: int = 0) -> np.ndarray:
    """The loss of each label of the first of several packed texts, in Q16 nats."""
    tensors = executor.tensors
    tokens, labels, positions = (tensors[n] for n in ("tokens", "labels", "positions"))
    tokens[:], labels[:], positions[:] = padding, padding, 0
    start = 0
    for text in texts:
        part = slice(start, start + len(text) - 1)
        tokens[part], labels[part] = text[:-1], text[1:]
        positions[part] = np.arange(len(text) - 1)
        start = part.stop
    positions[start:] = np.arange(len(positions) - start)
    executor.run("evaluate")
    return tensors["loss"][: len(texts[0]) - 1].copy()


def loss_of(logits: Row, label: int) -> int:
    """The loss of a token by the logits of generation."""
    state = [np.array([[v]], np.int32) for v in (LEAST_OCTAVE, 2**29, -60, 0)]
    labels = np.array([[label]], np.int32)
    state = evaluate(OPS["cross_entropy_chunk"], [logits, labels, *state], {"first_column": 0})
    return int(evaluate(OPS["cross_entropy_loss"], list(state), {})[0, 0])


@pytest.mark.parametrize("bits", BITS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=SLOW) for k in range(2, 12))])
def test_one_text_has_one_loss(seed: int, bits: Bits) -> None:
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 300, rng.integers(2, 40))
    expected = losses(opened(LENGTHS[0], bits), [text])
    for tokens in LENGTHS[1:]:
        executor = opened(tokens, bits)
        room = tokens - len(text) + 1
        other = rng.integers(0, 300, room + 1)
        for texts, padding in (([text], 0), ([text], 299), ([text, other], 0)):
            np.testing.assert_array_equal(losses(executor, texts, padding), expected)


@pytest.mark.parametrize("bits", [BITS[0], pytest.param(BITS[1], marks=SLOW)], ids=str)
@pytest.mark.parametrize("tokens", [LENGTHS[0], LENGTHS[-1]])
def test_generation_has_the_losses_of_training(tokens: int, bits: Bits) -> None:
    text = np.random.default_rng(7).integers(0, 300, 36)
    expected = losses(opened(LENGTHS[0], bits), [text])
    reader = TokenReader(opened(tokens, bits), toy(tokens, bits).step.plan)
    reader.start()
    for k, (token, label) in enumerate(pairwise(text)):
        (logits,) = reader.read([int(token)])
        row = Row(logits[0].reshape(1, -1).copy(), np.array([[int(logits[1])]], np.int32), 24)
        assert loss_of(row, int(label)) == expected[k], f"token {k}"

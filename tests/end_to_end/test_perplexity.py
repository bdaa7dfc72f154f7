# SPDX-License-Identifier: Apache-2.0
"""The perplexity of a text is that of the token losses, `==`, and of a float model, nearly."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import gsqc
from gsqc.data import WEIGHT_ONE
from gsqc.data.sequences import Piece
from gsqc.runtime.session import Session
from tests.cli.run_command import Capture, run_json, run_text
from tests.end_to_end.trained import Trained, float_model
from tests.runtime.small_bundle import END, byte_tokenizer

LENGTH = 24
TEXT = "The rain in Spain stays mainly in the plain. Ä wëll.\n" * 3
FLOAT_TOLERANCE = 0.005
"""Of the mean loss. test_export bounds the rounding of a token's logits by 5 %. Errors of single
tokens have both signs, so their mean over 165 tokens is smaller. It is 0.1 % here.
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def windows() -> list[list[int]]:
    """The text's tokens behind the end of text, cut by hand: 24 inputs and the label of each."""
    tokens = [END, *byte_tokenizer().encode(TEXT).ids]
    return [tokens[at : at + LENGTH + 1] for at in range(0, len(tokens) - 1, LENGTH)]


def test_it_is_that_of_the_token_losses(from_directory: Trained, text: Path) -> None:
    for run in (None, from_directory.run):
        session = Session(from_directory.bundle, run)
        total = 0
        for window in windows():
            piece = Piece(np.array(window, np.int32), np.arange(len(window)) > 0)
            count = len(window) - 1
            total += int(session.token_losses(piece.pad(LENGTH))[:count].sum())
        size = len(TEXT.encode())
        loss = float(Fraction(total * WEIGHT_ONE, size * WEIGHT_ONE << 16))
        result = gsqc.evaluate(from_directory.bundle, perplexity=text, run=run)
        assert (result.loss, result.perplexity, result.tokens) == (loss, math.exp(loss), size)
        assert result.bits_per_byte == loss * size / math.log(2) / size


def test_it_is_that_of_a_float_model(from_directory: Trained, text: Path) -> None:
    model, total = float_model(from_directory.merged()), 0.0
    for window in windows():
        with torch.no_grad():
            logs = model(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
        total -= float(logs[range(len(window) - 1), window[1:]].sum())
    result = gsqc.evaluate(from_directory.bundle, perplexity=text, run=from_directory.run)
    assert abs(result.loss / (total / result.tokens) - 1) < FLOAT_TOLERANCE
    untrained = gsqc.evaluate(from_directory.bundle, perplexity=text)
    assert abs(untrained.loss / (total / result.tokens) - 1) > 2 * FLOAT_TOLERANCE


def test_the_command_prints_it(capsys: Capture, from_directory: Trained, text: Path) -> None:
    result = gsqc.evaluate(from_directory.bundle, perplexity=text, limit=2)
    given = ("eval", from_directory.bundle, "--perplexity", text, "--limit", "2")
    capsys.readouterr()
    code, out, _ = run_text(capsys, *given)
    assert (code, out) == (
        0,
        f"loss {result.loss:.4f}   perplexity {result.perplexity:.2f}   tokens 48   "
        f"bits per byte {result.bits_per_byte:.4f}\n",
    )
    code, (line,) = run_json(capsys, *given)
    assert code == 0
    expected = {name: value for name, value in vars(result).items() if name != "accuracy"}
    assert line == json.loads(json.dumps({**expected, "notes": []}))

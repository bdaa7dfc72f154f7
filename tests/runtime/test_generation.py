# SPDX-License-Identifier: Apache-2.0
"""Generation stops at each token that ends a text or a turn."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.manifest import Manifest
from gsqc.runtime.generation import Drawing, generate_tokens
from tests.runtime.small_bundle import VOCABULARY, manifest


class Counting:
    """A reader whose likeliest token is the one after that which it read last."""

    def __init__(self) -> None:
        self.position = 0

    def start(self) -> None:
        self.position = 0

    def read(self, tokens: list[int]) -> list[tuple[Any, int]]:
        self.position += len(tokens)
        logits = np.zeros(VOCABULARY, np.int32)
        logits[tokens[-1] + 1] = 9
        return [(logits, 0)]


@pytest.mark.parametrize(
    ("eos", "ends", "made"),
    [
        (9, None, [4, 5, 6, 7, 8]),
        (9, [9, 6], [4, 5]),
        ([9, 7], [9, 7, 8], [4, 5, 6]),
        (None, [5], [4]),
        (9, [], [4, 5, 6, 7, 8]),
        (9, "x", [4, 5, 6, 7, 8]),  # a stranger's
    ],
)
def test_generation_stops_at_each_end(eos: Any, ends: Any, made: list[int]) -> None:
    model = replace(manifest().model, eos_token_id=eos, end_token_ids=ends)
    changed = replace(manifest(), model=model)
    reader: Any = Counting()
    found = generate_tokens(reader, changed, [3], Drawing(12, Fraction(0), 0))
    assert list(found) == made


def test_a_manifest_without_them_is_read() -> None:
    data = json.loads(json.dumps(manifest().to_json()))
    for name in ("special_tokens", "end_token_ids"):
        del data["model"][name]
    assert Manifest.from_json(data) == manifest()

# SPDX-License-Identifier: Apache-2.0
"""Every family's captured graph, run in float, gives the logits of transformers' own model."""

from __future__ import annotations

import pytest

from tests.models.capture.families import FAMILIES, tiny
from tests.models.capture.test_capture import assert_same_logits


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model(family: str) -> None:
    assert_same_logits(tiny(family))

# SPDX-License-Identifier: Apache-2.0
"""A step of the toy decoder whose linears are corrected in low rank."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.adapters import parse_adapter
from gsqc.passes.optional.lorc import Lorc
from tests.toy import TOY_RANK, build_toy
from tests.toy_training import check_gradients, open_executor


@pytest.mark.parametrize("adapter", ["lora:rank=8,alpha=16,linears=q+o+down", "peqa"])
def test_the_gradient_is_that_of_the_corrected_weight(adapter: str) -> None:
    """Losses too. A linear without an adapter is corrected as well: its x needs the gradient."""
    toy = build_toy(adapter=parse_adapter(adapter), passes=[Lorc(TOY_RANK)])
    check_gradients(toy)


def test_the_correction_is_seen() -> None:
    losses = []
    for passes in ([], [Lorc(TOY_RANK)]):
        executor, _ = open_executor(build_toy(passes=passes))
        executor.run("evaluate")
        losses.append(executor.tensors["loss"] / 2**16)
    assert np.abs(losses[0] - losses[1]).max() > 0.3

# SPDX-License-Identifier: Apache-2.0
"""Whether a program's capture is that of its model, and its logits those of another run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gsqc.models.capture import CapturedModel


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 1e-5 of the logits' size: both are float32 sums of the same terms in another order."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


def calls(captured: CapturedModel) -> list[Any]:
    """The calls with their settings, shapes, layers, and the names of their parameters."""
    return [
        (
            n.target.__name__,
            n.kwargs,
            n.meta["shape"],
            n.meta["block"],
            [a.meta["parameter"] for a in n.all_input_nodes if "parameter" in a.meta],
        )
        for n in captured.graph.nodes
        if n.op == "call_function"
    ]


def assert_same_capture(found: CapturedModel, expected: CapturedModel, *, names: bool) -> None:
    """The same calls on the same numbers. Then all of a bundle is the same."""
    mine, theirs = calls(found), calls(expected)
    if not names:
        mine, theirs = ([call[:4] for call in part] for part in (mine, theirs))
    assert mine == theirs
    assert found.constants.keys() == expected.constants.keys()
    for name, table in expected.constants.items():
        assert np.array_equal(found.constants[name], table)
    held = [[n for n in c.graph.nodes if "parameter" in n.meta] for c in (found, expected)]
    for a, b in zip(*held, strict=True):
        mine, theirs = (
            c.weights.float32(n.meta["parameter"]) for c, n in ((found, a), (expected, b))
        )
        assert np.array_equal(mine, theirs)

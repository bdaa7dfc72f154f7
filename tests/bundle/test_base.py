# SPDX-License-Identifier: Apache-2.0
"""What is said of the base's formats and losses, in any layers."""

from __future__ import annotations

import pytest

from gsqc.bundle.base import base_lines, in_layer, losses_of

UP, NORM = "model.layers.0.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({}, "as in the file"),
        ({29: 8_000}, "0.8% lost"),
        ({3: 8_000, 29: 91_000}, "0.8% to 9.1% lost"),
        (None, "loss not noted"),
    ],
)
def test_a_loss_in_any_layer_is_told(layers: dict[int, int] | None, said: str) -> None:
    losses = None if layers is None else {in_layer(UP, k): loss for k, loss in layers.items()}
    kinds = {UP: "gse8+q4_k", NORM: "row16"}
    assert list(base_lines("gguf", kinds, losses)) == [f"gse8+q4_k: up_proj ({said})"]
    others = losses_of("model.layers.0.mlp.down_proj.weight", losses)
    assert others == (None if losses is None else [])

# SPDX-License-Identifier: Apache-2.0
"""Decoders as torch.export.save writes them: the capture is that of the model's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gsqc.errors import UnsupportedOperatorError
from gsqc.models.capture import capture_model
from tests.models.capture.programs.comparisons import assert_same_capture
from tests.models.capture.programs.exports import MODELS, Tokens, save_pt2, tiny_gpt2, write_pt2
from tests.models.capture.tiny import TOKENS, tiny_llama


@pytest.mark.parametrize("name", [*MODELS])
@pytest.mark.parametrize("decomposed", [False, True], ids=["training", "core"])
def test_exported_program_is_that_of_the_directory(
    name: str, decomposed: bool, tmp_path: Path
) -> None:
    model, path = MODELS[name](), tmp_path / "tiny.pt2"
    write_pt2(model, path, decomposed=decomposed)
    captured = capture_model(str(path), TOKENS)
    assert_same_capture(captured, capture_model(model, TOKENS), names=name != "gpt2")
    assert captured.check is not None
    assert "of torch's run of the file" in captured.check()


def test_names_are_those_of_roles(tmp_path: Path) -> None:
    write_pt2(tiny_gpt2(), tmp_path / "tiny.pt2")
    names = capture_model(str(tmp_path / "tiny.pt2"), TOKENS).weights.names()
    linears = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    norms = ("input_layernorm", "post_attention_layernorm")
    expected = {f"model.layers.{k}.{part}" for k in range(2) for part in (*linears, *norms)}
    named = {n.removesuffix(".weight").removesuffix(".bias") for n in names}
    assert named == expected | {"model.embed_tokens", "model.embed_positions", "model.norm"}


def test_an_untied_head_of_other_numbers_stays_one(tmp_path: Path) -> None:
    model = tiny_llama(tie_word_embeddings=False)
    write_pt2(model, tmp_path / "tiny.pt2")
    captured = capture_model(str(tmp_path / "tiny.pt2"), TOKENS)
    assert not captured.config.tied_embeddings
    assert "lm_head.weight" in captured.weights.names()


class _Truncated(Tokens):
    """Its logits are whole numbers."""

    def forward(self, input_ids: Any) -> Any:
        return super().forward(input_ids).to(torch.int32).to(torch.float32)


class _Weighted(Tokens):
    """Its logits are those of a product with factors."""

    def forward(self, input_ids: Any) -> Any:
        x = super().forward(input_ids)
        width = x.shape[-1]
        y = torch.addmm(torch.ones(width), x.view(-1, width), torch.ones(width, width), beta=0.5)
        return y.view(x.shape)


@pytest.mark.parametrize(("kind", "said"), [(_Truncated, "aten.to.dtype"), (_Weighted, "factors")])
def test_what_changes_numbers_is_not_left_out(kind: Any, said: str, tmp_path: Path) -> None:
    """The check by torch runs what was traced, so it would not find it."""
    save_pt2(kind(tiny_llama()), tmp_path / "tiny.pt2")
    with pytest.raises(UnsupportedOperatorError, match=said):
        capture_model(str(tmp_path / "tiny.pt2"), TOKENS)

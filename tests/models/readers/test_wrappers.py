# SPDX-License-Identifier: Apache-2.0
"""The language model inside a model that sees: its logits are those of the whole, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from gsqc.errors import ModelError
from gsqc.models import load_model
from gsqc.models.capture import capture_model, run_float
from tests.models.seeing import SEEN, TEXT

TOKENS = 12
THREE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
QWEN_SEEN = {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64}
QWEN_SEEN |= {"intermediate_size": 48}


def text(kind: str, **changes: Any) -> dict[str, Any]:
    return {**TEXT, "model_type": kind, **changes}


def seen(kind: str, **changes: Any) -> dict[str, Any]:
    return {**SEEN, "model_type": kind, **changes}


CLIP = seen("clip_vision_model", projection_dim=32)
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "llava": ({"text_config": text("llama"), "vision_config": CLIP}, "llama"),
    "llava_next": ({"text_config": text("mistral"), "vision_config": CLIP}, "mistral"),
    "mistral3": (
        {"text_config": text("mistral"), "vision_config": seen("pixtral", head_dim=16)},
        "mistral",
    ),
    "internvl": (
        {
            "text_config": text("qwen2"),
            "vision_config": seen("internvl_vision", image_size=[28, 28], patch_size=[14, 14]),
        },
        "qwen2",
    ),
    "idefics3": (
        {"text_config": text("llama"), "vision_config": seen("idefics3_vision")},
        "llama",
    ),
    "smolvlm": (
        {
            "text_config": text("llama"),
            "vision_config": seen("smolvlm_vision"),
            "tie_word_embeddings": True,
        },
        "llama",
    ),
    "gemma3": (
        {
            "text_config": text("gemma3_text", sliding_window=8, query_pre_attn_scalar=16),
            "vision_config": seen("siglip_vision_model"),
            "mm_tokens_per_image": 1,
        },
        "gemma3_text",
    ),
    "qwen2_vl": (
        {
            "text_config": text("qwen2_vl_text", rope_parameters=THREE),
            "vision_config": {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 64},
        },
        "qwen2",
    ),
    "qwen2_5_vl": (
        {
            "text_config": text("qwen2_5_vl_text", rope_parameters=THREE),
            "vision_config": QWEN_SEEN | {"fullatt_block_indexes": [0]},
        },
        "qwen2",
    ),
    "qwen3_vl": (
        {
            "text_config": text("qwen3_vl_text", rope_parameters=THREE),
            "vision_config": QWEN_SEEN
            | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        },
        "qwen3",
    ),
}


def write(kind: str, folder: Path) -> Any:
    """A model that sees, with random weights, in `folder`."""
    config = AutoConfig.for_model(kind, **CASES[kind][0], image_token_id=300)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_(0, 0.3)
        else:
            parameter.data.mul_(4)
    model.save_pretrained(folder)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(3, 250, (TOKENS,), generator=torch.Generator().manual_seed(1))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=tokens()[None], use_cache=False).logits[0]
    return result


@pytest.mark.parametrize("kind", CASES)
def test_the_text_part_computes_what_the_whole_does(kind: str, tmp_path: Path) -> None:
    whole = write(kind, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.module.config.model_type == CASES[kind][1]
    part = type(loaded.module)(loaded.module.config).eval()
    names = loaded.weights.names()
    state = {name: torch.from_numpy(loaded.weights.float32(name).copy()) for name in names}
    lacking = part.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert lacking.missing_keys in ([], ["lm_head.weight"])  # the head is tied
    assert torch.equal(logits(part), logits(whole))
    (note,) = loaded.metadata["notes"]
    assert f"only the text part of this {kind} model" in note


@pytest.mark.parametrize("kind", ["llava", "smolvlm"])
def test_the_text_part_is_captured(kind: str, tmp_path: Path) -> None:
    """The tolerance is that of tests/models/capture/test_capture.py."""
    expected = logits(write(kind, tmp_path))
    captured = capture_model(str(tmp_path), TOKENS)
    difference = (run_float(captured, tokens()) - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max()


def test_names_of_newer_files(tmp_path: Path) -> None:
    """transformers writes the names of LLaVA's first files. Some programs write the module's."""
    expected = logits(write("llava", tmp_path))
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    assert "language_model.lm_head.weight" in stored
    newer = {
        name.replace("language_model.lm_head.", "lm_head.")
        .replace("language_model.model.", "model.language_model.")
        .replace("vision_tower.", "model.vision_tower.")
        .replace("multi_modal_projector.", "model.multi_modal_projector."): tensor
        for name, tensor in stored.items()
    }
    save_file(newer, file, {"format": "pt"})
    captured = capture_model(str(tmp_path), TOKENS)
    difference = (run_float(captured, tokens()) - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max()


def test_a_template_in_a_file_of_the_processor(tmp_path: Path) -> None:
    write("llava", tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "of the processor"}))
    assert load_model(tmp_path).metadata["chat_template"] == "of the processor"


def test_a_wrapper_that_nobody_tried(tmp_path: Path) -> None:
    write("llava", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "vipllava"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="vipllava is a model around a language model") as error:
        load_model(tmp_path)
    assert "llava, llava_next" in error.value.hint

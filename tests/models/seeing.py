# SPDX-License-Identifier: Apache-2.0
"""Tiny models that see, with random weights, and their processors: no file is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

SPECIAL = ("<unk>", "<s>", "</s>")
PLACEHOLDER = 259
ADDED = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
TEXT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 320, "max_position_embeddings": 128, "head_dim": 16,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SEEN = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
CLIP = {**SEEN, "model_type": "clip_vision_model", "projection_dim": 32}
PINPOINTS = [[28, 56], [56, 28]]
CONFIGS: dict[str, dict[str, Any]] = {
    "llava": {"text_config": {**TEXT, "model_type": "llama"}, "vision_config": CLIP},
    "llava_next": {
        "text_config": {**TEXT, "model_type": "mistral"},
        "vision_config": CLIP,
        "image_grid_pinpoints": PINPOINTS,
    },
    "idefics3": {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**SEEN, "model_type": "idefics3_vision"},
        "scale_factor": 1,
    },
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and those for images."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: k for k, text in enumerate((*SPECIAL, *letters))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        **dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True)),
        additional_special_tokens=list(ADDED),
    )


def processor(kind: str) -> Any:
    """The processor of a type of models."""
    edge = {"height": 28, "width": 28}
    if kind == "idefics3":
        side = {"longest_edge": 56}
        images = Idefics3ImageProcessorPil(size=side, max_image_size={"longest_edge": 28})
        return Idefics3Processor(image_processor=images, tokenizer=tokenizer(), image_seq_len=4)
    images, made = (
        (CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=edge), LlavaProcessor)
        if kind == "llava"
        else (
            LlavaNextImageProcessorPil(
                size={"shortest_edge": 28}, crop_size=edge, image_grid_pinpoints=PINPOINTS
            ),
            LlavaNextProcessor,
        )
    )
    return made(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=ADDED[0],
    )


def write_seeing(kind: str, folder: Path) -> Any:
    """A model that sees, with random weights, and its processor, in `folder`. The model."""
    config = AutoConfig.for_model(kind, **CONFIGS[kind], image_token_id=PLACEHOLDER)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_(0, 0.3)
        else:
            parameter.data.mul_(4)
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return model


def write_photo(path: Path, seed: int, size: tuple[int, int] = (40, 52)) -> Path:
    """An image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path

# SPDX-License-Identifier: Apache-2.0
"""Tiny classifiers of transformers with random weights, and a directory of one with a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.word_tokenizer import word_tokenizer

HIDDEN, LAYERS, CLASSES, VOCABULARY = 64, 2, 3, 320
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_OF_DISTILBERT = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 96}
_OF_MODERNBERT = {
    **_SIZES,
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
}
_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _SIZES),
    "roberta": ("Roberta", {**_SIZES, "pad_token_id": 1}),
    "modernbert": ("ModernBert", _OF_MODERNBERT),
    "modernbert-mean": ("ModernBert", {**_OF_MODERNBERT, "classifier_pooling": "mean"}),
    "distilbert": ("DistilBert", {"vocab_size": VOCABULARY, "pad_token_id": 0, **_OF_DISTILBERT}),
}
CLASSIFIER = "ForSequenceClassification"
ENCODERS = tuple(_SETTINGS)


def build_encoder(
    name: str, kind: str = CLASSIFIER, *, layers: int = LAYERS, **settings: Any
) -> Any:
    """A model with weights that are large enough for attention to look at some tokens more."""
    family, known = _SETTINGS[name]
    of_layers = {"n_layers" if "n_layers" in known else "num_hidden_layers": layers}
    given = {**known, "num_labels": CLASSES, **of_layers, **settings}
    config = getattr(transformers, f"{family}Config")(**given)
    torch.manual_seed(0)
    model = getattr(transformers, family + kind)(config).eval()
    factor = 2 if family == "ModernBert" else 3  # its own head is large already
    for parameter in model.parameters():
        noise = torch.randn_like(parameter) * 0.1
        parameter.data = parameter.data * factor if parameter.ndim > 1 else parameter.data + noise
    if name == "distilbert" and kind == CLASSIFIER:
        # Away from ReLU's corner, where a rounding decides whether a unit has a gradient.
        model.pre_classifier.bias.data += 2
    return model


def encoder_directory(place: Path, kind: str = CLASSIFIER, **settings: Any) -> Path:
    """A tiny BERT as save_pretrained writes it, with a tokenizer."""
    build_encoder("bert", kind, **settings).save_pretrained(place)
    word_tokenizer().save(str(place / "tokenizer.json"))
    return place

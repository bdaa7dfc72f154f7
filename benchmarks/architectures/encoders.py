# SPDX-License-Identifier: Apache-2.0
"""The encoders of the matrix, which compile as classifiers of texts."""

from __future__ import annotations

from typing import Any

from benchmarks.architectures.families import SIZES, Family, Settings

CLASSES = 3
_PADDING = 300
"""A token that is in no text of the matrix. RoBERTa's first position is the one behind it."""
_COMMON: Settings = {"num_labels": CLASSES, "pad_token_id": _PADDING, "num_key_value_heads": None}
_MODERNBERT: Settings = {
    **_COMMON, "cls_token_id": 256, "sep_token_id": 256, "local_attention": 8,
    "global_attn_every_n_layers": 2,
}  # fmt: skip


def _encoder(name: str, model_type: str, **settings: Any) -> Family:
    return Family(name, model_type, settings, task="classify")


ENCODERS = (
    _encoder("bert-classifier", "bert", **_COMMON),
    _encoder("roberta-classifier", "roberta", **_COMMON, max_position_embeddings=400),
    _encoder("distilbert-classifier", "distilbert", dim=64, n_layers=2, n_heads=4, hidden_dim=96,
             **_COMMON | dict.fromkeys(SIZES)),
    _encoder("modernbert-classifier", "modernbert", **_MODERNBERT),
    _encoder("modernbert-classifier-mean", "modernbert", **_MODERNBERT, classifier_pooling="mean"),
)  # fmt: skip
"""A row for each family of encoders, and for each way in which its head reads a text."""

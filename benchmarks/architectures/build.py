# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every family, as directories that `save_pretrained` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.architectures.families import Family
from gsqc.models.readers.classifier import logits_weight

SEED, CLASSIFIER_DEVIATION = 0, 0.25


def model_class(task: str) -> Any:
    """The class of transformers that builds and loads a model for a task."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return AutoModelForCausalLM if task == "generate" else AutoModelForSequenceClassification


def build(family: Family, seed: int = SEED) -> Any:
    """A model of transformers with random weights, in float32.

    Matrices are four times as large as transformers makes them, so that attention is far from
    uniform. No norm is all ones and no bias is zero, so a part that is lost shows in the logits.
    Families begin the matrix of a classifier's logits at different sizes. Here it has one size.
    """
    from transformers import AutoConfig

    config = AutoConfig.for_model(family.type, **family.configuration)
    torch.manual_seed(seed)
    model = model_class(family.task).from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
        elif parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5)
        else:
            parameter.data.mul_(4)
    if family.task == "classify":
        model.get_parameter(logits_weight(model)).data.normal_(0, CLASSIFIER_DEVIATION)
    return model


def byte_tokenizer() -> Tokenizer:
    """A token for each UTF-8 byte. <end> is 256. llama.cpp reads no file without a merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: k for k, c in enumerate(alphabet)} | {"<end>": 256, "ab": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def write(model: Any, folder: Path) -> Path:
    """Save the model with a byte tokenizer."""
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder

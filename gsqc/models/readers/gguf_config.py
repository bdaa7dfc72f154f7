# SPDX-License-Identifier: Apache-2.0
"""The configuration of a model from the metadata of a GGUF file."""

from __future__ import annotations

from typing import Any

from gsqc.errors import ModelError
from gsqc.models.readers.gguf_architectures import Architecture
from gsqc.models.readers.gguf_keys import Keys
from gsqc.models.readers.gguf_settings import SETTINGS
from gsqc.models.readers.text_files import first_line


def model_config(keys: Keys, architecture: Architecture) -> Any:
    """transformers' configuration. What the file has no tensor of is tied, or has no bias.

    Raises ModelError.
    """
    from transformers import AutoConfig

    if "token_embd.weight" not in keys.file.tensors:
        raise ModelError(
            f"{keys.file.path.name} has no token_embd.weight",
            "give a file that holds a whole model",
        )
    heads = keys.count("attention.head_count")
    settings = {
        "model_type": architecture.model_type,
        "vocab_size": keys.file.tensors["token_embd.weight"].shape[0],
        "hidden_size": keys.count("embedding_length"),
        "intermediate_size": keys.count("feed_forward_length"),
        "num_hidden_layers": keys.layers(),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": keys.head_dim(),
        "max_position_embeddings": keys.count("context_length", 2048),
        "tie_word_embeddings": "output.weight" not in keys.file.tensors,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),
        **SETTINGS[keys.architecture](keys),
    }
    try:
        return AutoConfig.for_model(**settings)
    except Exception as error:  # transformers raises errors of many types
        raise ModelError(
            f"the sizes in {keys.file.path.name} do not fit together: {first_line(error)}",
            "fetch it again",
        ) from error

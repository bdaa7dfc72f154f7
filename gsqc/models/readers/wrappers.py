# SPDX-License-Identifier: Apache-2.0
"""The language model inside a model that also sees.

Such a model's directory holds a vision tower, a projection, and a language model that is one of
transformers' own. The language model is taken as its …ForCausalLM, without the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gsqc.errors import ModelError

WRAPPERS = {
    "llava": "model.language_model",
    "llava_next": "model.language_model",
    "mistral3": "model.language_model",
    "internvl": "model.language_model",
    "gemma3": "model.language_model",
    "idefics3": "model.text_model",
    "smolvlm": "model.text_model",
    "qwen2_vl": "model.language_model",
    "qwen2_5_vl": "model.language_model",
    "qwen3_vl": "model.language_model",
}
"""Model types with the place of their language model. Its head is lm_head."""
_TEXT_TYPES = {
    "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3",
}  # fmt: skip
"""Types of text parts that have no causal model of their own, and the type that computes the same.

Their positions have three parts, for time, height and width. Of a text all three are equal, and
then the rotation is the plain one.
"""
_OF_POSITIONS = ("mrope_section", "mrope_interleaved", "type")


@dataclass(frozen=True)
class TextPart:
    """The language model of a wrapper.

    config  its own configuration
    place   its path in the wrapper
    """

    config: Any
    place: str

    def name(self, whole: str) -> str | None:
        """The name of a tensor in the language model. None for what is no part of it."""
        if whole.startswith(f"{self.place}."):
            return f"model.{whole.removeprefix(f'{self.place}.')}"
        return whole if whole.startswith("lm_head.") else None


def text_part(config: Any) -> TextPart | None:
    """The language model in the configuration of a wrapper, or None for other configurations.

    ModelError for a configuration that has a text part which gsqc does not know how to take out.
    """
    place = WRAPPERS.get(config.model_type)
    inner = getattr(config, "text_config", None)
    if place is not None and inner is not None:
        return TextPart(_causal(inner, config), place)
    if inner is not None and _is_no_causal_model(config):
        raise ModelError(
            f"{config.model_type} is a model around a language model, and gsqc does not know where "
            "that is",
            f"gsqc takes the text part out of {', '.join(WRAPPERS)}",
        )
    return None


def _is_no_causal_model(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _causal(inner: Any, whole: Any) -> Any:
    """The configuration of the …ForCausalLM that computes what the text part does."""
    from transformers import AutoConfig

    kind = _TEXT_TYPES.get(inner.model_type)
    settings = inner.to_dict()
    if kind is not None:
        settings.pop("model_type")
        rope = dict(settings.get("rope_parameters") or {})
        settings["rope_parameters"] = {k: v for k, v in rope.items() if k not in _OF_POSITIONS}
        if settings["rope_parameters"].get("rope_type") == "mrope":
            settings["rope_parameters"]["rope_type"] = "default"
    # transformers ties the head of the whole by the outer setting.
    tied = getattr(whole, "tie_word_embeddings", None)
    if tied is not None:
        settings["tie_word_embeddings"] = tied
    for key in ("eos_token_id", "bos_token_id"):
        if settings.get(key) is None:
            settings[key] = getattr(whole, key, None)
    settings = {k: v for k, v in settings.items() if not re.match(r"_|transformers_version", k)}
    settings.pop("model_type", None)
    return AutoConfig.for_model(kind or inner.model_type, **settings)

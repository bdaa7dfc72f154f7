# SPDX-License-Identifier: Apache-2.0
"""read_peft: an adapter that Hugging Face's PEFT saved. It needs neither torch nor peft.

Which layers and linears have an adapter, and at which rank, is read from the names and shapes of
the tensors. The settings say the scale, and whether there is more than B·A.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from gsqc.errors import ExportError
from gsqc.export.foreign.find import FoundAdapter
from gsqc.export.foreign.floats import read_floats
from gsqc.export.foreign.pairs import MERGE, Floats, ForeignAdapter, Pair, is_scale, named, short
from gsqc.export.peft import PREFIX

# fmt: off
_TELLING_NOTHING = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "lora_alpha", "target_modules", "exclude_modules", "lora_dropout",
    "init_lora_weights", "layers_pattern", "megatron_core", "qalora_group_size", "eva_config",
    "use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "fan_in_fan_out",
}
# fmt: on
"""Settings in adapter_config.json that are used, checked on their own, or change nothing.

The tensors tell the linears, layers and ranks. fan_in_fan_out tells how W is stored, not A and B.
"""
_PLAIN_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base's weights alone."""
_CONVERTED = ("pissa", "olora", "corda")
"""How the values begin whose adapters PEFT can turn into plain LoRA."""
_CONVERT = (
    "save it with PEFT's save_pretrained(…, path_initial_model_for_weight_conversion=…), which "
    "makes it a plain LoRA of twice the rank"
)
_OF_PROMPTS = {
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT",
    "CPT", "CARTRIDGE",
}  # fmt: skip
"""Kinds that change no weight, so they cannot be merged."""
_NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.([^.]+))?\.weight")
_PATTERN = re.compile(r"\^?[\w.]+\$?")


def read_peft(found: FoundAdapter, most_bytes: int) -> ForeignAdapter:
    """The adapter of a directory that PEFT's save_pretrained wrote.

    Raises ExportError with every problem of the settings, or with the first one of the weights.
    """
    config = found.config
    _require_lora(config, found)
    problems = _setting_problems(config)
    if problems:
        folder = found.weights.parent
        raise ExportError(f"{folder} does not fit the bundle: {'; '.join(problems)}", _hint(config))
    halves = _halves(found, most_bytes)
    _require_ranks(config, halves, found)
    patterns = _patterns(config)
    pairs = {
        module: Pair(half["A"], half["B"], _scale(config, patterns, module, len(half["A"])))
        for module, half in halves.items()
    }
    notes = []
    if config.get("lora_dropout"):
        notes.append("it was trained with dropout, and gsqc trains without")
    if config.get("use_rslora"):
        notes.append("it is rsLoRA, whose scale is alpha / √rank")
    base_name = config.get("base_model_name_or_path") or ""
    return ForeignAdapter("peft", pairs, base_name, tuple(notes))


def _require_lora(config: dict[str, Any], found: FoundAdapter) -> None:
    """ExportError for other kinds of adapters, whose settings are not worth a word each."""
    kind = config.get("peft_type")
    if kind == "LORA":
        return
    hint = MERGE["peft"]
    if isinstance(kind, str) and kind in _OF_PROMPTS:
        hint = "it changes no weight of the model: begin a LoRA with gsqc train"
    raise ExportError(
        f"{found.weights.parent} is an adapter of the kind {named(kind)}, which gsqc does not take",
        hint,
    )


def _setting_problems(config: dict[str, Any]) -> list[str]:
    """The settings by which the adapter is more than scale · B·A, or cannot be read."""
    problems = []
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        problems.append(f"its task is {named(config['task_type'])}, not CAUSAL_LM")
    problems += [
        f"{key[:60]} = {short(value)} is not supported"
        for key, value in config.items()
        if key not in _TELLING_NOTHING and value not in (None, False, "none", [], {})
    ]
    if config.get("init_lora_weights", True) not in _PLAIN_BASE:
        problems.append(
            f"init_lora_weights = {short(config['init_lora_weights'])} changes the base's weights"
        )
    if not is_scale(config.get("lora_alpha")):
        problems.append(f"its alpha is {short(config.get('lora_alpha'))}, not a number above 0")
    if not isinstance(config.get("base_model_name_or_path") or "", str):
        problems.append("the name of its base model is no text")
    if type(config.get("use_rslora", False)) is not bool:
        problems.append(f"use_rslora = {short(config['use_rslora'])} is neither true nor false")
    return problems + _pattern_problems(config)


def _pattern_problems(config: dict[str, Any]) -> list[str]:
    """What is wrong with the ranks, and with alphas by the names of linears."""
    rank, problems = config.get("r"), []
    if type(rank) is not int or rank < 1:
        problems.append(f"its rank is {short(rank)}, not a whole number above 0")
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        return [*problems, "rank_pattern or alpha_pattern is no object"]
    return problems + [
        f"alpha_pattern has {short({key: alpha})}, not a plain name and a number above 0"
        for key, alpha in alphas.items()
        if not (_PATTERN.fullmatch(key) and is_scale(alpha))
    ]


def _hint(config: dict[str, Any]) -> str:
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CONVERTED):
        return _CONVERT
    return MERGE["peft"]


def _patterns(config: dict[str, Any]) -> list[tuple[re.Pattern[str], Fraction]]:
    """The names of alpha_pattern, to be matched as PEFT does, and their alphas."""
    return [
        (re.compile(rf"(.*\.)?({key})$"), Fraction(alpha))
        for key, alpha in (config.get("alpha_pattern") or {}).items()
    ]


def _scale(
    config: dict[str, Any],
    patterns: list[tuple[re.Pattern[str], Fraction]],
    module: str,
    rank: int,
) -> Fraction:
    """alpha / rank of a linear, or alpha / √rank. The first pattern that fits gives alpha."""
    fitting = (alpha for pattern, alpha in patterns if pattern.match(module))
    alpha = next(fitting, Fraction(config["lora_alpha"]))
    if not config.get("use_rslora"):
        return alpha / max(1, rank)
    root = math.isqrt(rank)
    return alpha / max(1, root) if root * root == rank else alpha / Fraction(math.sqrt(rank))


def _require_ranks(
    config: dict[str, Any], halves: dict[str, dict[str, Floats]], found: FoundAdapter
) -> None:
    """ExportError for a matrix whose rank the settings do not name: PEFT would not load it."""
    known = [config["r"], *(config.get("rank_pattern") or {}).values()]
    for module, half in halves.items():
        if len(half["A"]) not in known:
            raise ExportError(
                f"{found.weights} has a LoRA of {module[:120]} at rank {len(half['A'])}, "
                f"its settings say {short(config['r'])}",
                "the settings and the weights are of two adapters: save the adapter again",
            )


def _halves(found: FoundAdapter, most_bytes: int) -> dict[str, dict[str, Floats]]:
    """A and B by the linear's name. ExportError if there are other tensors, or several adapters."""
    halves: dict[str, dict[str, Floats]] = {}
    adapters, unknown = set(), []
    for name, values in read_floats(found.weights, most_bytes).items():
        match = _NAME.fullmatch(name)
        if match and values.ndim == 2:
            halves.setdefault(match[1], {})[match[2]] = values
            adapters.add(match[3])
        else:
            unknown.append(name)
    if unknown:
        raise ExportError(
            f"{found.weights} holds more than lora_A and lora_B of linears, "
            f"first {min(unknown)[:120]}",
            MERGE["peft"],
        )
    if len(adapters) > 1:
        names = ", ".join(sorted(str(name or "one without a name")[:60] for name in adapters)[:8])
        raise ExportError(
            f"{found.weights} holds {len(adapters)} adapters: {names}",
            "save one of them with PEFT's save_pretrained(…, selected_adapters=[NAME])",
        )
    alone = [f"{PREFIX}{m}.lora_{next(iter(half))}" for m, half in halves.items() if len(half) == 1]
    if alone:
        raise ExportError(
            f"{found.weights} has {min(alone)[:120]} alone, without the other matrix of its linear",
            "the file is damaged: save the adapter again",
        )
    return halves

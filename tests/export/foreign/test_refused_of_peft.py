# SPDX-License-Identifier: Apache-2.0
"""Adapters of the peft library that are more than B·A: a line says what they are and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
from peft import LoraConfig

from gsqc.bundle.bundle import Bundle
from tests.export.foreign.taken import take
from tests.export.foreign.written import ALL, PLAIN, write

REFUSED: dict[str, tuple[Any, str, str]] = {
    "dora": (LoraConfig(**PLAIN, use_dora=True), "use_dora = true", "merge_and_unload"),
    "head saved": (
        LoraConfig(**PLAIN, modules_to_save=["lm_head"]),
        "modules_to_save",
        "merge_and_unload",
    ),
    "bias of LoRA": (LoraConfig(**PLAIN, bias="lora_only"), 'bias = "lora_only"', "merge"),
    "every bias": (LoraConfig(**PLAIN, bias="all"), 'bias = "all"', "merge"),
    "bias of B": (LoraConfig(**PLAIN, lora_bias=True), "lora_bias", "merge"),
    "tokens": (LoraConfig(**PLAIN, trainable_token_indices=[1]), "trainable_token_indices", ""),
    "classes": (LoraConfig(**(PLAIN | {"task_type": "SEQ_CLS"})), "SEQ_CLS", "merge"),
    "larger rank": (
        LoraConfig(**(PLAIN | {"r": 8})),
        "the adapter's rank is 8, the bundle's 4",
        "--adapter lora:rank=8,alpha=16",
    ),
    "head": (
        LoraConfig(**(PLAIN | {"target_modules": [*ALL, "lm_head"]})),
        "lm_head",
        "merge",
    ),
    "embedding": (
        LoraConfig(**(PLAIN | {"target_modules": [*ALL, "embed_tokens"]})),
        "embed_tokens",
        "merge",
    ),
    "IA3": (
        peft.IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[]),
        "is PEFT's IA3, and the bundle's adapter is LoRA",
        "compile the model with --adapter peqa",
    ),
    "LoHa": (peft.LoHaConfig(target_modules=ALL), "of the kind LOHA", "merge"),
    "AdaLoRA": (
        peft.AdaLoraConfig(target_modules=ALL, total_step=10),
        "of the kind ADALORA",
        "merge",
    ),
    "VeRA": (peft.VeraConfig(target_modules=["q_proj"]), "of the kind VERA", "merge"),
    "prompt tuning": (
        peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        "of the kind PROMPT_TUNING",
        "it changes no weight",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_what_matters(
    tiny: Bundle, base: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, text, hint = REFUSED[case]
    write(base, tmp_path / "peft", config)
    capsys.readouterr()
    assert take(tiny, "peft", tmp_path / "peft", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert text in error and hint in error, error
    assert error.count("\n") == 1 and error.count("is not supported") <= 1
    assert not (tmp_path / "run").exists()

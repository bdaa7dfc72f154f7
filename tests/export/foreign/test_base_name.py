# SPDX-License-Identifier: Apache-2.0
"""Which names mean the same base model."""

from __future__ import annotations

import pytest

from gsqc.errors import ExportError
from gsqc.export.foreign.base_name import require_base

OWN = frozenset({"meta-llama/Llama-3.2-1B-Instruct"})


@pytest.mark.parametrize(
    "name",
    ["meta-llama/Llama-3.2-1B-Instruct", "unsloth/Llama-3.2-1B-Instruct", "llama-3.2-1b-instruct/"],
)
def test_the_last_part_counts(name: str) -> None:
    assert require_base(name, OWN) is None


@pytest.mark.parametrize(
    "name",
    [
        "unsloth/Llama-3.2-1B-Instruct-bnb-4bit",
        "unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit",
        "mlx-community/Llama-3.2-1B-Instruct-4bit",
        "mlx-community/Llama-3.2-1B-Instruct-8bit",
        "mlx-community/Llama-3.2-1B-Instruct-bf16",
        "mlx-community/Llama-3.2-1B-Instruct-MLX-4bit",
        "mlx-community/Llama-3.2-1B-Instruct-4bit-DWQ",
        "someone/Llama-3.2-1B-Instruct-AWQ",
        "someone/Llama-3.2-1B-Instruct-GPTQ-Int4",
        "Llama-3.2-1B-Instruct.Q4_K_M",
        "Llama-3.2-1B-Instruct-IQ4_XS",
        "Llama 3.2 1B Instruct",
    ],
)
def test_copies_are_taken_with_a_note(name: str) -> None:
    note = require_base(name, OWN)
    assert note and name in note and "meta-llama/Llama-3.2-1B-Instruct" in note
    assert require_base("meta-llama/Llama-3.2-1B-Instruct", frozenset({name})) is not None


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.2-1B",
        "meta-llama/Llama-3.2-3B-Instruct",
        "someone/Llama-3.2-1B-Instruct-abliterated",
        "someone/Llama-3.2-1B-Instruct-4bit-abliterated",
        "-4bit",
    ],
)
def test_other_models_are_refused(name: str) -> None:
    with pytest.raises(ExportError) as error:
        require_base(name, OWN)
    assert name in str(error.value) and "--any-base" in error.value.hint
    assert require_base(name, None) is None


def test_an_adapter_without_a_name_is_taken() -> None:
    assert require_base("", OWN) is None

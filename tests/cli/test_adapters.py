# SPDX-License-Identifier: Apache-2.0
"""gsqc adapters and gsqc plan --adapters all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsqc.adapters import adapter_kinds, parse_adapter
from tests.cli.run_command import Capture, run_json, run_text

pytest.importorskip("torch")


def test_every_kind_is_listed_with_its_settings(capsys: Capture) -> None:
    code, records = run_json(capsys, "adapters")
    assert code == 0 and {record["kind"] for record in records} == set(adapter_kinds())
    assert records[0]["kind"] == "lora"
    for record in records:
        assert str(parse_adapter(record["default"])) == record["default"]
    code, text, _ = run_text(capsys, "adapters")
    assert "rank=16: Rows of A." in text and "arXiv 2305.14152" in text


def test_plans_of_every_kind(capsys: Capture, model_directory: Path) -> None:
    """The numbers of LoRA and PEQA are counted by hand."""
    arguments = ("plan", model_directory, "--adapters", "all", "--no-probe", "--seq", 32)
    code, records = run_json(capsys, *arguments, "--adapter", "lora:linears=q")
    by_kind = {record["adapter"].partition(":")[0]: record for record in records}
    assert code == 0 and set(by_kind) == set(adapter_kinds())
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_directory)
    size, layers = config.hidden_size, config.num_hidden_layers
    assert by_kind["lora"]["trained"] == layers * 16 * 2 * size
    assert by_kind["peqa"]["trained"] == layers * size
    assert by_kind["lora"]["step_ratio"] == 1
    assert by_kind["peqa"]["state_bytes"] < by_kind["lora"]["state_bytes"]

# SPDX-License-Identifier: Apache-2.0
"""A bundle with two kinds of adapters: its digests, and what commands make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.export.compose import compose, parse_sum
from gsqc.runtime.session import Session
from tests.cli.run_command import Capture, run_text
from tests.end_to_end.test_export import AGREEMENT, SUMMATION
from tests.end_to_end.trained import TEXT, Trained, export, float_model
from tests.export.float_model import distance, model_logits, session_logits, with_adapter

LORA, PACA = "lora:rank=4,alpha=8,linears=q+v", "paca:rank=8,alpha=24,linears=up+down"


@pytest.fixture(scope="module")
def mixed(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("mixed")
    bundle, options = folder / "b.gsqc", ("--seq", "24", "--seed", "1")
    adapters = ("--adapter", LORA, "--adapter", PACA)
    assert main(["compile", str(model_directory), *adapters, *options, "-o", str(bundle)]) == 0
    return Trained(model_directory, bundle, folder)


def test_numpy_and_native_have_the_same_digests(mixed: Trained) -> None:
    result = run_check(mixed.bundle, ["numpy", "native"], 2)
    assert result.equal, result
    assert all(len(set(digests)) == 2 for digests in result.targets.values())


def test_the_merged_model_is_what_was_trained(mixed: Trained, tmp_path: Path) -> None:
    """PEFT's LoRA with ranks and alphas by name is the reference of the merge."""
    ours = session_logits(Session(mixed.bundle, mixed.run), TEXT)
    merged = model_logits(float_model(mixed.merged()), TEXT)
    assert distance(ours, merged) < AGREEMENT
    Session(mixed.bundle, tmp_path / "new").save()
    export(mixed.bundle, tmp_path / "new", "--merged", tmp_path / "m", "--model", mixed.model)
    base = float_model(tmp_path / "m")
    assert distance(merged, model_logits(base, TEXT)) > 10 * SUMMATION
    assert distance(merged, model_logits(with_adapter(base, mixed.peft), TEXT)) < SUMMATION
    config = json.loads((mixed.peft / "adapter_config.json").read_text())
    assert config["rank_pattern"] == {"q_proj": 4, "v_proj": 4, "up_proj": 8, "down_proj": 8}
    assert config["alpha_pattern"] == {"q_proj": 8, "v_proj": 8, "up_proj": 24, "down_proj": 24}


def test_other_commands_know_both(mixed: Trained, capsys: Capture, tmp_path: Path) -> None:
    code, text, _ = run_text(capsys, "inspect", mixed.bundle)
    assert code == 0 and LORA in text.replace("\n", "") and "paca:rank=8" in text
    exported = ("export", mixed.bundle, "--run", mixed.run)
    for flag, program in (("--mlx", "mlx-lm"), ("--gguf", "a GGUF file")):
        code, _, errors = run_text(capsys, *exported, flag, tmp_path / "x.gguf")
        assert code != 0 and f"{program} has one for all linears" in errors
    sums = compose(Bundle.open(mixed.bundle), {"a": mixed.run}, parse_sum("a - a"))
    assert not any(sums[n].any() for n in sums if not n.endswith("_a"))


def test_import_refuses_what_one_of_them_cannot_take(
    mixed: Trained, capsys: Capture, tmp_path: Path
) -> None:
    command = ("import", mixed.bundle, "--run", tmp_path / "r", "--peft", mixed.peft)
    code, _, errors = run_text(capsys, *command)
    assert code != 0 and "a LoRA of 4 linears that the bundle's does not have" in errors
    assert np.all(not (tmp_path / "r").exists())

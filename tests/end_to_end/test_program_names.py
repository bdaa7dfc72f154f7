# SPDX-License-Identifier: Apache-2.0
"""Bundles of .onnx files with a config.json beside them: exports load into the family's model."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from benchmarks.architectures.build import build, write
from benchmarks.architectures.bundle_stages import LENGTH, Trial, command
from benchmarks.architectures.families import BY_NAME
from gsqc.errors import ExportError
from tests.models.capture.programs.exports import write_onnx

DIFFERENCE, STEP_DIFFERENCE = 0.004, 0.03
"""Those of models from directories (docs/models.md)."""


class ProgramTrial(Trial):
    """A bundle of the .onnx file in the model's directory."""

    def compile(self) -> str:
        """Compile the file in place of the directory. Its float weights become NF4."""
        adapter, file = "lora:rank=4,alpha=8", self.directory / "model.onnx"
        command("compile", file, "-o", self.bundle, "--seq", LENGTH, "--adapter", adapter)
        return "yes"


def _trial(name: str, folder: Path) -> ProgramTrial:
    family = BY_NAME[name]
    model = build(family)
    directory = write(model, folder / name)
    write_onnx(model, directory / "model.onnx", "dynamo18")
    trial = ProgramTrial(family, directory, folder)
    trial.compile()
    return trial


@pytest.mark.slow
@pytest.mark.needs_target("llvm")
@pytest.mark.parametrize("name", ["gpt2", "qwen2", "phi"])
def test_exports_load_into_the_model_of_the_family(name: str, tmp_path: Path) -> None:
    trial = _trial(name, tmp_path)
    assert abs(trial.start()) < DIFFERENCE
    assert abs(trial.train()) < STEP_DIFFERENCE
    assert abs(trial.peft()) < DIFFERENCE
    assert abs(trial.merged()) < DIFFERENCE


@pytest.mark.slow
@pytest.mark.needs_target("llvm")
def test_a_file_of_another_family_than_its_config_has_no_peft(tmp_path: Path) -> None:
    folder = tmp_path / "phi3"
    model = build(BY_NAME["llama"])
    build(BY_NAME["phi3"]).config.save_pretrained(folder)
    write_onnx(model, folder / "model.onnx", "dynamo18")
    trial = ProgramTrial(BY_NAME["llama"], folder, tmp_path)
    trial.compile()
    place = tmp_path / "peft"
    with pytest.raises(ExportError, match=r"an \.onnx file of an unknown family"):
        command("export", trial.bundle, "--run", _run(trial), "--peft", place)
    assert not place.exists()


def _run(trial: Trial) -> Path:
    """An untrained run of the trial's bundle."""
    from gsqc.runtime.session import Session

    Session(trial.bundle, trial.folder / "start").save()
    return trial.folder / "start"

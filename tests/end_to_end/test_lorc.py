# SPDX-License-Identifier: Apache-2.0
"""A bundle whose linears give back in low rank what NF4 has lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gsqc.adapters.lora import Lora
from gsqc.bundle.base import LOSS_UNIT
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.passes.optional.lorc import Lorc
from gsqc.runtime.session import Session
from tests.end_to_end.test_export import AGREEMENT
from tests.end_to_end.trained import TEXT, export, float_model, train
from tests.export.float_model import distance, model_logits, session_logits
from tests.targets_here import COMPILED


@pytest.fixture(scope="module")
def corrected(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the fixture `bundle`, with a correction of rank 8."""
    output = tmp_path_factory.mktemp("lorc") / "tiny.gsqc"
    options = CompileOptions(
        output, COMPILED, adapter=Lora(4, 8), sequence_length=24, batch=2, seed=1, passes=(Lorc(8),)
    )
    compile_model(str(model_directory), options)
    return output


def test_less_is_lost(bundle: Path, corrected: Path) -> None:
    """The claim of ZeroQuant-V2, section 5."""
    before, after = (Bundle.open(p).manifest.base_losses for p in (bundle, corrected))
    assert before is not None and after is not None
    assert before.keys() == after.keys()
    assert all(after[name] < 0.95 * before[name] for name in before)


def test_native_and_numpy_are_equal(corrected: Path) -> None:
    assert run_check(corrected, ["numpy", "native"], 2).equal


def test_a_merged_model_holds_the_correction(
    model_directory: Path, corrected: Path, tmp_path: Path
) -> None:
    """Of a run without a step: its weights differ from the model's by what the bundle notes."""
    Session(corrected, tmp_path / "run").save()
    export(corrected, tmp_path / "run", "--merged", tmp_path / "m", "--model", model_directory)
    merged, model = (load_file(p / "model.safetensors") for p in (tmp_path / "m", model_directory))
    noted = Bundle.open(corrected).manifest.base_losses
    for name, lost in (noted or {}).items():
        difference = np.linalg.norm(merged[name] - model[name]) / np.linalg.norm(model[name])
        # The note is rounded to millionths, and the merged weight to float32.
        assert difference == pytest.approx(lost / LOSS_UNIT, abs=2e-6), name


def test_a_merged_run_computes_what_the_session_computes(
    model_directory: Path, corrected: Path, tmp_path: Path
) -> None:
    run = train(corrected, tmp_path / "run")
    export(corrected, run, "--merged", tmp_path / "merged", "--model", model_directory)
    ours = session_logits(Session(corrected, run), TEXT)
    assert distance(ours, model_logits(float_model(tmp_path / "merged"), TEXT)) < AGREEMENT

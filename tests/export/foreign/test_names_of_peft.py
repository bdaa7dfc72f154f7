# SPDX-License-Identifier: Apache-2.0
"""The names of tensors and base models by which PEFT, and programs that use it, save adapters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.runtime.store import RunStore
from tests.export.foreign.test_peft import STATE, bundle, matrices, take, write

__all__ = ["bundle"]


def require_taken(bundle: Bundle, run: Path) -> None:
    """The run begins with `matrices()`."""
    saved = RunStore(run, bundle).load_state(bundle.plan.buffers["state"])
    assert saved is not None
    for name, values in zip(STATE, matrices().values(), strict=True):
        exact = np.rint(values.astype(np.float64) * 2**24).reshape(-1)
        np.testing.assert_array_equal(saved[0][name], exact)


@pytest.mark.parametrize("adapter", ["default", "my-adapter_2"])
@pytest.mark.parametrize("prefix", ["base_model.model.", ""])
def test_names_with_the_adapter_in_them(
    bundle: Bundle, tmp_path: Path, adapter: str, prefix: str
) -> None:
    """As in a state_dict that was saved without get_peft_model_state_dict."""
    tensors = {
        name.replace(".weight", f".{adapter}.weight").replace("base_model.model.", prefix): values
        for name, values in matrices().items()
    }
    assert take(bundle, write(tmp_path / "peft", tensors), tmp_path / "run") == 0
    require_taken(bundle, tmp_path / "run")


def test_two_adapters_in_one_file(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {
        name.replace(".weight", f".{adapter}.weight"): values
        for name, values in matrices().items()
        for adapter in ("one", "two")
    }
    assert take(bundle, write(tmp_path / "peft", tensors), tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "holds 2 adapters: one, two" in error and "selected_adapters=[NAME]" in error


def test_the_file_of_the_weights(bundle: Bundle, tmp_path: Path) -> None:
    """A checkpoint may have another name than PEFT's."""
    file = write(tmp_path / "peft", matrices()) / "adapter_model.safetensors"
    other = file.rename(file.parent / "step-100.safetensors")
    assert take(bundle, other, tmp_path / "run") == 0
    require_taken(bundle, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "import.json").read_text())
    assert record["peft"] == str(other) and record["notes"] == [] and len(record["sha256"]) == 64


def test_a_quantised_copy_of_the_base(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unsloth's names. The note says which, and import.json keeps it."""
    path = write(tmp_path / "peft", matrices(), base_model_name_or_path="unsloth/Toy-bnb-4bit")
    assert take(bundle, path, tmp_path / "run") == 0
    note = "it names unsloth/Toy-bnb-4bit as its base, which is a copy of toy by its name"
    assert f"note: {note}" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "import.json").read_text())["notes"] == [note]

# SPDX-License-Identifier: Apache-2.0
"""GGUF files that were split into parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")

from gsqc.errors import ModelError
from gsqc.models import load_model
from gsqc.models.readers.gguf_file import read_gguf
from tests.models.readers.convert import KEY_HEADS, tiny_model, write_model

VALUES = {"attention.layer_norm_rms_epsilon": 1e-6, "attention.head_count_kv": KEY_HEADS}


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The parts of a file as gguf's own writer makes them."""
    write_model(tiny_model("qwen2"), "qwen2", tmp_path / "a.gguf", VALUES, part_tensors=20)
    found = sorted(tmp_path.glob("a-*.gguf"))
    assert [file.name for file in found] == [f"a-0000{k}-of-00003.gguf" for k in (1, 2, 3)]
    return found


@pytest.mark.parametrize("given", [0, 2])
def test_any_part_stands_for_all(parts: list[Path], given: int) -> None:
    model, weights = tiny_model("qwen2"), load_model(parts[given]).weights
    parameters = dict(model.named_parameters())
    assert set(weights.names()) == set(parameters)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(weights.float32(name), parameter.detach().numpy())


def test_a_part_that_is_not_there(parts: list[Path]) -> None:
    parts[1].unlink()
    with pytest.raises(ModelError, match="one of 3 parts, and a-00002-of-00003"):
        read_gguf(parts[0])


def test_a_part_with_another_name(parts: list[Path]) -> None:
    path = parts[0].rename(parts[0].with_name("model.gguf"))
    with pytest.raises(ModelError, match="its name does not say which"):
        read_gguf(path)


def test_parts_that_were_exchanged(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ModelError, match="is not part 2 of 3"):
        read_gguf(parts[0])


def test_parts_of_two_files(parts: list[Path]) -> None:
    """One of the parts has other tensors than when the first was written."""
    other = parts[0].parent / "other"
    other.mkdir()
    model = tiny_model("qwen2", num_hidden_layers=3)
    write_model(model, "qwen2", other / "a.gguf", VALUES, part_tensors=15)
    changed = sorted(other.glob("a-*.gguf"))
    assert len(changed) == 3
    parts[2].write_bytes(changed[2].read_bytes())
    with pytest.raises(ModelError, match="do not fit together"):
        read_gguf(parts[0])

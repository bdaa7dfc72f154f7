# SPDX-License-Identifier: Apache-2.0
"""GGUF exports hold the merged weights and the adapter, number by number."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from benchmarks.architectures.build import byte_tokenizer
from gsqc.bundle.bundle import Bundle
from gsqc.export.merge import MergedWeights, open_base
from gsqc.models import load_model
from gsqc.models.readers.gguf import GgufWeights
from tests.end_to_end.trained import Trained, export


@pytest.mark.parametrize(
    ("dtype", "limit"), [("f32", 0), ("f16", 2.0**-11), ("bf16", 2.0**-8), ("q8_0", 2.0**-7)]
)
def test_a_merged_gguf_holds_the_merged_weights(
    from_gguf: Trained, dtype: str, limit: float
) -> None:
    """The bounds are half a unit of each type's last place at the largest number of its block."""
    path = from_gguf.merged("--dtype", dtype, name=f"{dtype}.gguf")
    bundle = Bundle.open(from_gguf.bundle)
    loaded, _ = open_base(bundle, str(from_gguf.model))
    expected = MergedWeights(bundle, loaded, from_gguf.adapter())
    weights = load_model(path).weights
    assert isinstance(weights, GgufWeights)
    for name in weights.names():
        wanted = expected.float32(name)
        assert np.abs(weights.float32(name) - wanted).max() <= limit * np.abs(wanted).max()
    before, after = GGUFReader(from_gguf.model), GGUFReader(path)
    stored = {t.name: t for t in before.tensors}
    for tensor in after.tensors:
        if not tensor.name.startswith("blk") or "norm" in tensor.name:
            np.testing.assert_array_equal(tensor.data, stored[tensor.name].data)
    changed = {"general.file_type", "GGUF.kv_count", "GGUF.tensor_count"}
    assert set(before.fields) == set(after.fields)
    for name in set(before.fields) - changed:
        assert before.fields[name].contents() == after.fields[name].contents()


def test_a_gguf_of_a_directory_holds_the_merged_weights(
    from_directory: Trained, tmp_path: Path
) -> None:
    model, path = tmp_path / "model", tmp_path / "new.gguf"
    shutil.copytree(from_directory.model, model)
    byte_tokenizer().save(str(model / "tokenizer.json"))  # llama.cpp reads none without a merge
    given = ("--merged", path, "--model", model, "--dtype", "f32")
    export(from_directory.bundle, from_directory.run, *given)
    bundle = Bundle.open(from_directory.bundle)
    loaded, _ = open_base(bundle, str(model))
    expected = MergedWeights(bundle, loaded, from_directory.adapter())
    weights = load_model(path).weights
    assert set(weights.names()) == set(expected.shapes())
    for name in weights.names():
        np.testing.assert_array_equal(weights.float32(name), expected.float32(name))


def test_a_gguf_adapter_adds_what_the_merged_file_has(from_gguf: Trained) -> None:
    path = from_gguf.folder / "lora.gguf"
    export(from_gguf.bundle, from_gguf.run, "--gguf", path)
    reader = GGUFReader(path)
    text = {
        key: reader.fields[key].contents()
        for key in ("general.type", "general.architecture", "adapter.type")
    }
    assert text == {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
    }
    scale = reader.fields["adapter.lora.alpha"].contents() / 4
    tensors = {t.name: t.data.astype(np.float64) for t in reader.tensors}
    merged = {
        t.name: t.data
        for t in GGUFReader(from_gguf.merged("--dtype", "f32", name="m.gguf")).tensors
    }
    base = load_model(from_gguf.model).weights
    assert isinstance(base, GgufWeights)
    assert len(tensors) == 2 * 2 * 7
    for name, stored in base.stored_names.items():
        if f"{stored}.lora_a" not in tensors:
            continue
        delta = scale * tensors[f"{stored}.lora_b"] @ tensors[f"{stored}.lora_a"]
        expected = base.as_in_file(name, base.float32(name)) + delta
        np.testing.assert_array_equal(merged[stored], expected.astype(np.float32))

# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file changes of a model's parameters is undone, and codes stay codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, quants

from gsqc.errors import ModelError
from gsqc.models import load_model
from gsqc.models.layouts import TRANSPOSED, LinearWeights
from gsqc.models.loaded import FloatTensor
from gsqc.models.readers.gguf import GgufWeights
from gsqc.models.readers.gguf_architectures import ARCHITECTURES
from gsqc.models.readers.gguf_settings import SETTINGS
from tests.models.readers.convert import KEY_HEADS, tiny_model, write_model

RMS = {"attention.layer_norm_rms_epsilon": 1e-6, "attention.head_count_kv": KEY_HEADS}
WIDTH = {"attention.key_length": 16}
NORM = {"attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": 4}


def weights_of(path: Path) -> GgufWeights:
    weights = load_model(path).weights
    assert isinstance(weights, GgufWeights)
    return weights


def test_every_architecture_has_its_settings() -> None:
    assert ARCHITECTURES.keys() == SETTINGS.keys()


@pytest.mark.parametrize(
    ("architecture", "model_type", "name", "values"),
    [
        ("gptneox", "gpt_neox", "gpt_neox.layers.1.attention.query_key_value", NORM),
        ("llama", "llama", "model.layers.1.self_attn.k_proj", RMS),
        ("phi3", "phi3", "model.layers.1.mlp.gate_up_proj", RMS),
    ],
)
def test_codes_are_kept_where_only_rows_move(
    tmp_path: Path, architecture: str, model_type: str, name: str, values: dict[str, Any]
) -> None:
    """Quantising by rows and moving rows are one and the same in either order."""
    model = tiny_model(model_type)
    path = write_model(model, architecture, tmp_path / "a.gguf", values, lambda *_: Kind.Q8_0)
    weights, weight = weights_of(path), model.get_parameter(f"{name}.weight").detach().numpy()
    assert weights.code_kind(f"{name}.weight") == "q8_0"
    packed = quants.quantize(weight, Kind.Q8_0)
    np.testing.assert_array_equal(
        quants.dequantize(weights.raw_blocks(f"{name}.weight"), Kind.Q8_0),
        quants.dequantize(packed, Kind.Q8_0),
    )


def test_codes_of_columns_are_those_of_rows(tmp_path: Path) -> None:
    """GPT-2's weights are [inputs, outputs] in Hugging Face's model, and rows of outputs here."""
    path = write_model(
        tiny_model("gpt2", n_inner=96), "gpt2", tmp_path / "a.gguf", NORM, lambda *_: Kind.Q8_0
    )
    weights, name = weights_of(path), "transformer.h.0.attn.c_attn.weight"
    assert isinstance(weights.tensor(name), FloatTensor)
    linear = LinearWeights(weights, {name: TRANSPOSED})
    assert linear.code_kind(name) == "q8_0"
    codes = quants.dequantize(linear.raw_blocks(name), Kind.Q8_0)
    np.testing.assert_array_equal(codes, linear.float32(name))


def test_codes_of_floats_are_not_kept(tmp_path: Path) -> None:
    path = write_model(tiny_model("gemma"), "gemma", tmp_path / "a.gguf", RMS | WIDTH)
    weights = weights_of(path)
    for name in ("model.norm.weight", "model.layers.0.mlp.up_proj.weight"):
        assert weights.code_kind(name) == "gse8"
        with pytest.raises(ModelError, match="are not kept"):
            weights.raw_blocks(name)


@pytest.mark.parametrize(
    ("architecture", "model_type", "values"),
    [("gptneox", "gpt_neox", NORM), ("gpt2", "gpt2", NORM), ("gemma", "gemma", RMS | WIDTH)],
)
def test_numbers_go_back_into_the_file(
    tmp_path: Path, architecture: str, model_type: str, values: dict[str, Any]
) -> None:
    model = tiny_model(model_type, n_inner=96)
    path = write_model(model, architecture, tmp_path / "a.gguf", values)
    weights = weights_of(path)
    stored = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    for name, ggml in weights.stored_names.items():
        np.testing.assert_array_equal(
            weights.as_in_file(name, weights.float32(name)), stored[ggml], err_msg=name
        )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rope.scaling.type": "other"}, "scales rope by other"),
        ({"rope.dimension_count": 8}, "rotates a part of each head only"),
        ({"rope.dimension_count": 18}, "rotates 18 numbers of heads of 16"),
        ({"rope.scaling.type": "yarn", "rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor"),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.yarn_log_multiplier": 0.1},
            "yarn_log_multiplier",
        ),
    ],
)
def test_rope_that_transformers_cannot_express(
    tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    path = write_model(tiny_model("qwen2"), "qwen2", tmp_path / "a.gguf", {**RMS, **values})
    with pytest.raises(ModelError, match=reason) as raised:
        load_model(path)
    assert "fit together" not in str(raised.value)


@pytest.mark.parametrize("missing", ["rope_factors_long.weight", "rope_factors_short.weight"])
def test_longrope_needs_both_lists_of_factors(tmp_path: Path, missing: str) -> None:
    factors = {f"rope_factors_{k}.weight": np.ones(8, np.float32) for k in ("long", "short")}
    factors[missing] = np.ones(7, np.float32)
    path = write_model(tiny_model("phi3"), "phi3", tmp_path / "a.gguf", RMS, None, factors)
    with pytest.raises(ModelError, match=f"does not have 8 numbers in {missing}"):
        load_model(path)


def test_a_list_of_windows_is_one_for_each_layer(tmp_path: Path) -> None:
    values = {**RMS, "attention.key_length": 16, "attention.sliding_window": 8}
    pattern = {"attention.sliding_window_pattern": [True, False, False, True]}
    path = write_model(tiny_model("gemma3_text"), "gemma3", tmp_path / "a.gguf", values | pattern)
    types = load_model(path).module.config.layer_types
    assert [kind == "sliding_attention" for kind in types] == [True, False, False, True]
    pattern = {"attention.sliding_window_pattern": [True, False]}
    path = write_model(tiny_model("gemma3_text"), "gemma3", tmp_path / "b.gguf", values | pattern)
    with pytest.raises(ModelError, match="does not say of each layer"):
        load_model(path)


def test_an_architecture_that_is_not_read(tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    path = write_model(model, "qwen2", tmp_path / "a.gguf", RMS)
    content = path.read_bytes().replace(b"qwen2", b"other")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="architecture other") as raised:
        load_model(path)
    assert "llama, qwen2, qwen3, granite" in raised.value.hint

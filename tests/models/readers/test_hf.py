# SPDX-License-Identifier: Apache-2.0
"""Directories of strangers: what is asked for is bounded by what the files hold."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import transformers
from safetensors.numpy import load_file, save_file

from gsqc.errors import ModelError
from gsqc.models import load_model


@pytest.fixture
def folder(model_directory: Path, tmp_path: Path) -> Path:
    """A model's directory that a test may change."""
    return Path(shutil.copytree(model_directory, tmp_path / "model"))


def configure(folder: Path, **changes: Any) -> Path:
    """Change values of config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 2**32}, "num_hidden_layers that is too large"),
        ({"num_labels": 2**31}, "num_labels that is too large"),
        ({"attention_types": [[["global"], 2**31]]}, "a list that is too large"),
        ({"num_hidden_layers": 2**19}, "more layers than its files have tensors"),
        ({"head_dim": 2**40}, "heads of 1099511627776"),
        ({"head_dim": 2**31}, "heads of 2147483648"),
        ({"hidden_size": 2**62}, "cannot build|shape"),
        ({"hidden_size": "64"}, "config.json"),
        ({"hidden_size": -64}, "config.json|cannot build"),
        ({"num_attention_heads": None}, "config.json|cannot build"),
        ({"num_hidden_layers": [2]}, "config.json|cannot build"),
        ({"vocab_size": 0.5}, "config.json|cannot build"),
        ({"rope_parameters": {"rope_type": "a"}}, "config.json|cannot build"),
        ({"model_type": "\ud800"}, "does not recognize"),
        ({"model_type": []}, "config.json"),
        ({"eos_token_id": 1e999}, "eos_token_id|config.json"),
        ({"eos_token_id": {"a": 1}}, "eos_token_id|config.json"),
    ],
)
def test_what_a_configuration_may_not_ask_for(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    start = time.process_time()
    with pytest.raises(ModelError, match=reason) as error:
        load_model(configure(folder, **changes))
    str(error.value).encode()
    assert time.process_time() - start < 20


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"\xff", b"[]", b"[" * 100_000, b"{", b'{"a": '])
def test_a_json_file_that_is_none(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("chat_template.jinja", b"\xff", "chat_template.jinja is not UTF-8"),
        ("tokenizer_config.json", b'{"chat_template": "\\ud800"}', "half of a surrogate pair"),
        ("generation_config.json", b'{"eos_token_id": [1, "a"]}', "eos_token_id that is no token"),
        ("generation_config.json", b'{"bos_token_id": 1e999}', "bos_token_id that is no token"),
    ],
)
def test_what_a_model_says_of_its_tokens(
    folder: Path, name: str, content: bytes, reason: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        load_model(folder)


def test_named_templates_keep_their_names(folder: Path) -> None:
    given = [{"name": "default", "template": "t", "more": 1e999}, 7]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": given}))
    assert load_model(folder).metadata["chat_template"] == [{"name": "default", "template": "t"}]


def test_a_tensor_in_two_files(folder: Path) -> None:
    """The model's own file is what transformers reads, but the other may be what the user means."""
    tensors = load_file(folder / "model.safetensors")
    name = "model.norm.weight"
    save_file({name: tensors[name] + 1}, folder / "zz.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors and zz\.safetensors both have"):
        load_model(folder)


def test_files_beside_the_model_are_not_its_weights(folder: Path) -> None:
    """As in transformers: model.safetensors, else what the index names."""
    save_file({"layers.0.attention.wq.weight": np.ones(3)}, folder / "consolidated.safetensors")
    assert load_model(folder).weights.names()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_model(folder).weights.names()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 5}')
    with pytest.raises(ModelError, match=r"layers\.0\.attention\.wq\.weight"):
        load_model(folder)


def test_a_tensor_that_the_configuration_does_not_know(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    computed = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    save_file(tensors | computed, folder / "model.safetensors")
    assert load_model(folder).weights.names()
    bias = {"model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32)}
    save_file(tensors | bias, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 tensors .* first model\.layers\.0.*q_proj\.bias"):
        load_model(folder)


@pytest.mark.parametrize("change", [0, 1])
def test_a_stored_head_of_a_tied_model(folder: Path, change: int) -> None:
    """transformers takes the stored one if it is another than the embedding."""
    tensors = load_file(folder / "model.safetensors")
    head = tensors["model.embed_tokens.weight"] + np.float32(change)
    save_file({**tensors, "lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).lm_head.weight
    ours = load_model(folder)
    assert ("lm_head.weight" in ours.weights.names()) == bool(change)
    name = "lm_head.weight" if change else "model.embed_tokens.weight"
    np.testing.assert_array_equal(ours.weights.float32(name), theirs.detach().numpy())


def test_what_is_no_plain_file(folder: Path) -> None:
    """Opening a FIFO would wait for ever. Links are how Hugging Face's cache is made."""
    (folder / "model.safetensors").rename(folder / "blob")
    (folder / "model.safetensors").symlink_to("blob")
    assert load_model(folder).weights.names()
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors: it is a FIFO"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(ModelError, match=r"model\.safetensors: it is a directory"):
        load_model(folder)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ModelError):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [2**62, 2**62]),
        ("shape", [-1]),
        ("shape", None),
        ("dtype", "X7"),
        ("dtype", "I64"),
        ("data_offsets", [0, 2**63]),
        ("data_offsets", "a"),
    ],
)
def test_a_header_of_tensors_that_does_not_fit(folder: Path, key: str, value: Any) -> None:
    content = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["model.norm.weight"][key] = value
    changed = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(
        len(changed).to_bytes(8, "little") + changed + content[8 + size :]
    )
    with pytest.raises(ModelError, match=r"cannot read model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\udc80"])
def test_a_name_that_no_file_has(name: str) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        load_model(name)

# SPDX-License-Identifier: Apache-2.0
"""Directories of strangers: what is asked for is bounded by what the files hold."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

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

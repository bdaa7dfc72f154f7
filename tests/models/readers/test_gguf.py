# SPDX-License-Identifier: Apache-2.0
"""GGUF files of strangers: counts, sizes and texts are held against the file before their use."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")
pytest.importorskip("transformers")

from gsqc.errors import ModelError
from gsqc.models import load_model
from gsqc.models.readers.gguf_file import read_gguf
from tests.export.tiny_gguf import write_tiny_gguf

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: str, kind: int, value: bytes) -> bytes:
    """An entry of the metadata."""
    return text(key.encode()) + struct.pack("<I", kind) + value


def container(
    entries: list[bytes], tensors: tuple[bytes, ...] = (), counts: tuple[int, int] | None = None
) -> bytes:
    """A GGUF file of version 3 without numbers."""
    declared = counts or (len(tensors), len(entries))
    return b"GGUF" + struct.pack("<IQQ", 3, *declared) + b"".join([*entries, *tensors])


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """What the header says of a tensor."""
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a GGUF file"),
        (b"GGUF", "within its header"),
        (container([], counts=(2**63, 0)), "9223372036854775808 entries"),
        (container([], counts=(0, 2**64 - 1)), "18446744073709551615 entries"),
        (container([], counts=(1, 0)), "within its header"),
        (container([entry("a", 77, b"")]), "unknown type 77"),
        (container([entry("a", STRING, text(b"\xff"))]), "not UTF-8"),
        (container([entry("a", STRING, struct.pack("<Q", 2**63))]), "within its header"),
        (container([entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "elements of type 9"),
        (container([entry("a", ARRAY, struct.pack("<IQ", STRING, 2**62))]), "a list of"),
        (container([entry("a", ARRAY, struct.pack("<IQ", UINT32, 2**24))]), "within its header"),
        (container([], (tensor(b"a", (2**32, 2**32)),)), "the file at"),
        (container([], (tensor(b"a", (2**63, 2**63, 2**63, 2**63)),)), "the file at"),
        (container([], (tensor(b"a", (0, 4)),)), "has the shape"),
        (container([], (tensor(b"a", ()),)), "0 dimensions"),
        (container([], (tensor(b"a", (1,) * 5),)), "5 dimensions"),
        (container([], (tensor(b"a", (4,), kind=999),)), "unknown tensor type"),
        (container([], (tensor(b"a", (4,), offset=2**63),)), "the file at"),
        (container([entry("general.alignment", UINT32, b"\0" * 4)]), "alignment is 0"),
        (
            container([entry("general.alignment", FLOAT32, b"\0" * 4)]),
            "alignment is 0.0",
        ),
        (container([entry("general.alignment", STRING, text(b"32"))]), "alignment is 32"),
    ],
)
def test_a_container_that_does_not_fit(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        read_gguf(tmp_path / "a.gguf")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "a.gguf").read_bytes()


def changed(content: bytes, key: str, kind: int, value: bytes) -> bytes:
    """The file with another value of four bytes, and of another type, under a key."""
    at = content.index(text(f"llama.{key}".encode())) + 8 + len(f"llama.{key}")
    return content[:at] + struct.pack("<I", kind) + value + content[at + 8 :]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("block_count", 2**31 - 1, "2147483647 blocks and 20 tensors"),
        ("block_count", 2**31, "block_count = 2147483648"),
        ("block_count", 21, "21 blocks and 20 tensors"),
        ("block_count", 20, "disagree|more layers"),
        ("block_count", 0, "not a positive number"),
        ("embedding_length", 2**31 - 4, "heads of|shape|fit together"),
        ("feed_forward_length", 2**31 - 1, "shape"),
        ("attention.head_count", 2**31 - 1, "positive|heads|fit together"),
        ("attention.head_count", 64, "heads of 1 numbers"),
        ("attention.head_count_kv", 3, "shape|fit together|cannot build"),
        ("context_length", 2**32 - 1, "context_length = 4294967295"),
    ],
)
def test_a_count_that_the_file_cannot_have(
    tmp_path: Path, tiny: bytes, key: str, value: int, reason: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(changed(tiny, key, UINT32, struct.pack("<I", value)))
    start = time.process_time()
    with pytest.raises(ModelError, match=reason):
        load_model(tmp_path / "a.gguf")
    assert time.process_time() - start < 20


def without_type(tmp_path: Path, **values: float) -> Any:
    """The rope of a file with these values, and no type of scaling."""
    write_tiny_gguf(tmp_path / "a.gguf", model={f"rope.{k}": v for k, v in values.items()})
    return load_model(tmp_path / "a.gguf").module.config.rope_parameters


@pytest.mark.parametrize("key", ["scaling.factor", "scale_linear"])
def test_a_rope_factor_without_a_type_is_linear(tmp_path: Path, key: str) -> None:
    """llama.cpp, llama-model.cpp: the type is linear if it is not there, and the old key counts."""
    rope = without_type(tmp_path, **{key: 4.0})
    assert (rope["rope_type"], rope["factor"]) == ("linear", 4)
    assert without_type(tmp_path, **{key: 1.0})["rope_type"] == "default"


def test_a_scale_of_attention_beside_rope_is_refused(tmp_path: Path) -> None:
    assert without_type(tmp_path, **{"scaling.attn_factor": 1.0})["rope_type"] == "default"
    with pytest.raises(ModelError, match="attn_factor"):
        without_type(tmp_path, **{"scaling.attn_factor": 1.2})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.5])
def test_a_count_that_is_no_whole_number(tmp_path: Path, tiny: bytes, value: float) -> None:
    content = changed(tiny, "block_count", FLOAT32, struct.pack("<f", value))
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="block_count"):
        load_model(tmp_path / "a.gguf")


def test_a_token_that_is_none(tmp_path: Path, tiny: bytes) -> None:
    key = text(b"tokenizer.ggml.eos_token_id")
    at = tiny.index(key) + len(key)
    (tmp_path / "a.gguf").write_bytes(tiny[:at] + struct.pack("<I", FLOAT32) + tiny[at + 4 :])
    with pytest.raises(ModelError, match="an eos that is no token"):
        load_model(tmp_path / "a.gguf")


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    """Opening a FIFO would wait for ever."""
    os.mkfifo(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match="it is a FIFO"):
        load_model(tmp_path / "a.gguf")

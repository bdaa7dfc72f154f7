# SPDX-License-Identifier: Apache-2.0
"""Whole bundles open. Those that were changed, or made by an attacker, do not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.bundle.plan import ALIGNMENT, Plan, TensorPlan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError
from tests.runtime.small_bundle import CODE, STATE, manifest, other_state, small_plan, write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.gsqc")


def change_manifest(path: Path, change: dict[str, Any]) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_open_gives_what_was_written(path: Path) -> None:
    bundle = Bundle.open(path)
    assert bundle.manifest.bits == "4-8-8"
    assert bundle.file(CODE).read_bytes() == b"code"
    tensors = bundle.map_tensors("state.safetensors")
    assert set(tensors) == set(STATE)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, STATE[name])
        assert tensor.ctypes.data % ALIGNMENT == 0
        assert tensor.flags.writeable
    assert len(bundle.meaning) == 64
    assert not [p for p in path.parent.iterdir() if p != path]


def test_the_meaning_is_what_is_computed(tmp_path: Path, path: Path) -> None:
    """The meaning does not depend on the machine, the version of gsqc or a person's words."""
    meaning = Bundle.open(path).meaning
    elsewhere = {"arm": TargetPart("aarch64-linux-gnu", code_bytes=4)}
    same = write_bundle(tmp_path / "same.gsqc", targets=elsewhere, gsqc_version="0.0.1")
    assert Bundle.open(same).meaning == meaning
    with BundleWriter(tmp_path / "code.gsqc") as writer:
        for name in ("state.safetensors", "tokenizer.json"):
            writer.add_file(Bundle.open(path), name)
        for name in ("code/numpy/other", "code/arm-npu/a.cop", "programs/a.tosa"):
            writer.add_bytes(name, b"other")
        writer.finish(manifest(), small_plan())
    assert Bundle.open(tmp_path / "code.gsqc").meaning == meaning
    wider = Plan(buffers={**small_plan().buffers, "input": {"x": TensorPlan("int8", 1)}})
    others: dict[str, dict[str, Any]] = {
        "state": {"state": other_state()},
        "tokenizer": {"tokenizer": False},
        "plan": {"plan": wider},
    }
    for name, change in others.items():
        other = write_bundle(tmp_path / f"{name}.gsqc", **change)
        assert Bundle.open(other).meaning != meaning, name


def test_the_meaning_is_computed_as_docs_say(path: Path) -> None:
    names = ("plan.json", "state.safetensors", "tokenizer.json")
    lines = [f"{n} {hashlib.sha256((path / n).read_bytes()).hexdigest()}\n" for n in names]
    assert Bundle.open(path).meaning == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", ["state.safetensors", CODE, "tokenizer.json"])
@pytest.mark.parametrize("change", ["flip", "truncate", "remove"])
def test_a_changed_file_is_refused(path: Path, name: str, change: str) -> None:
    file = path / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if change == "remove":
        file.unlink()
    else:
        file.write_bytes(content if change == "flip" else content[:-1])
    with pytest.raises(BundleError, match=name):
        Bundle.open(path)


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../outside", "code/../../outside", "..", "a\\b", ""]
)
def test_a_file_outside_is_refused(path: Path, name: str) -> None:
    (path.parent / "outside").write_bytes(b"x")
    change_manifest(path, {"files": {name: {"sha256": "0" * 64, "bytes": 1}}})
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(path)


@pytest.mark.parametrize("name", ["tokenizer.json", "code"])
def test_links_are_refused(path: Path, name: str) -> None:
    (path / name).rename(path.parent / "moved")
    (path / name).symlink_to(path.parent / "moved")
    with pytest.raises(BundleError, match="link"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": {CODE: None}},
        {"files": {CODE: {"bytes": 4}}},
        {"sequence_length": 0},
        {"sequence_length": True},
        {"batch": "2"},
        {"optimizer": "lion"},
        {"model": {}},
        {"targets": None},
        {"targets": {"numpy": {}}},
        {"targets": {"numpy": {"triple": "numpy", "cpu_features": 3, "code_bytes": 0}}},
        {"targets": {"numpy": {"triple": "numpy", "cpu_features": [], "code_bytes": -1}}},
    ],
)
def test_a_malformed_manifest_is_refused(path: Path, change: dict[str, Any]) -> None:
    change_manifest(path, change)
    with pytest.raises(BundleError):
        Bundle.open(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format_version": 4}', "\udcff"])
def test_a_manifest_that_is_none_is_refused(path: Path, text: str) -> None:
    (path / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(BundleError):
        Bundle.open(path)


def test_a_bundle_of_an_older_gsqc_is_told_in_a_sentence(path: Path) -> None:
    change_manifest(path, {"format_version": 1})
    with pytest.raises(BundleError, match=r"(?m)has format 1, this gsqc reads format 4$"):
        Bundle.open(path)


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"kernels": {}}'])
def test_a_plan_that_is_none_is_refused(path: Path, content: bytes | None) -> None:
    files = json.loads((path / "manifest.json").read_text())["files"]
    if content is None:
        del files["plan.json"]
    else:
        (path / "plan.json").write_bytes(content)
        files["plan.json"] = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
    change_manifest(path, {"files": files})
    with pytest.raises(BundleError, match="plan"):
        Bundle.open(path)


def test_paths_that_are_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        Bundle.open(tmp_path / "absent.gsqc")
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(tmp_path)


def test_the_machine_is_not_the_bundles_to_check(tmp_path: Path) -> None:
    """A bundle of a target that nobody knows is read; a session of it is refused."""
    targets = {"abacus": TargetPart("wood", ("warp-drive",), 7, 12, {"beads": 10})}
    path = write_bundle(tmp_path / "a.gsqc", targets=targets)
    assert Bundle.open(path).manifest.targets == targets


def test_tensors_that_are_none_are_refused(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a.gsqc") as writer:
        writer.add_bytes("base.safetensors", b"\xff" * 64)
        writer.finish(manifest(), small_plan())
    bundle = Bundle.open(tmp_path / "a.gsqc")
    for name in ("base.safetensors", "absent.safetensors"):
        with pytest.raises(BundleError, match=name):
            bundle.map_tensors(name)

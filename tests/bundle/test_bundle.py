# SPDX-License-Identifier: Apache-2.0
"""Bundles that are whole open; those that were changed, moved to another machine or made by an
attacker do not.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import FirstSteps, TargetPart
from gsqc.bundle.plan import ALIGNMENT, Plan, TensorPlan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError
from tests.runtime.small_bundle import CODE, STATE, manifest, other_state, small_plan, write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.gsqc")


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow beyond 4 KiB, the test runner's own output included: so for the one call
    only.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


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
    """Not for which machine, by which gsqc, or what a person asked for in which words."""
    meaning = Bundle.open(path).meaning
    elsewhere = {"arm": TargetPart("aarch64-linux-gnu", code_bytes=4)}
    same = write_bundle(tmp_path / "same.gsqc", targets=elsewhere, gsqc_version="0.0.1")
    assert Bundle.open(same).meaning == meaning
    with BundleWriter(tmp_path / "code.gsqc") as writer:
        for name in ("state.safetensors", "tokenizer.json"):
            writer.add_file(name, path / name)
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


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format_version": 3}', "\udcff"])
def test_a_manifest_that_is_none_is_refused(path: Path, text: str) -> None:
    (path / "manifest.json").write_text(text, errors="surrogateescape")
    with pytest.raises(BundleError):
        Bundle.open(path)


def test_a_bundle_of_an_older_gsqc_is_told_in_a_sentence(path: Path) -> None:
    change_manifest(path, {"format_version": 1})
    with pytest.raises(BundleError, match=r"has format 1, this gsqc reads format 2$"):
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


def test_writing_over_something_needs_force(path: Path) -> None:
    with pytest.raises(BundleError, match="exists"):
        BundleWriter(path)
    with BundleWriter(path, force=True) as writer:
        writer.add_bytes("new", b"1")
        writer.finish(manifest(), small_plan())
    assert set(Bundle.open(path).files) == {"new", "plan.json"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_force_does_not_delete_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="not a bundle"):
        BundleWriter(tmp_path, force=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_failed_compilation_leaves_the_old_bundle_and_nothing_else(path: Path) -> None:
    before = Bundle.open(path).meaning

    def fail() -> None:
        with BundleWriter(path, force=True) as writer:
            writer.add_bytes("new", b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert Bundle.open(path).meaning == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["bytes", "tensors"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    with BundleWriter(tmp_path / "a.gsqc") as writer:
        add = {
            "bytes": lambda: writer.add_bytes("big", bytes(10_000)),
            "tensors": lambda: writer.add_tensors("big", {"x": np.zeros(10_000, np.int8)}),
        }[kind]
        with pytest.raises(BundleError, match="cannot write") as error, full_disk():
            add()
    assert "disk space" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_bundle_can_be_opened_before_it_is_in_its_place(tmp_path: Path) -> None:
    """Its first steps are taken there, and their digests go into the manifest that is written last."""
    path = tmp_path / "small.gsqc"
    with BundleWriter(path) as writer:
        writer.add_tensors("state.safetensors", STATE)
        early = Bundle.open(writer.add_manifest(manifest(), small_plan()))
        assert early.manifest.golden is None
        assert not path.exists()
        golden = FirstSteps(0, ("0" * 64,), "numpy")
        writer.finish(replace(manifest(), golden=golden), small_plan())
    opened = Bundle.open(path)
    assert opened.manifest.golden == golden
    assert list(opened.files) == ["state.safetensors", "plan.json"]

# SPDX-License-Identifier: Apache-2.0
"""A bundle appears at its place when it is complete. A failure leaves what was there before."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import FirstSteps
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError
from tests.runtime.small_bundle import STATE, manifest, small_plan, write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.gsqc")


@contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow beyond 4 KiB. This holds for the test runner's own output too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


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
    """gsqc takes its first steps there, and writes their digests into the last manifest."""
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

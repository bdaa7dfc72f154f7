# SPDX-License-Identifier: Apache-2.0
"""Run directories: a save is complete or did not happen, and a state belongs to its bundle."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import TensorPlan
from gsqc.errors import RunError
from gsqc.runtime.store import RunStore, require_state
from tests.runtime.small_bundle import STATE, other_state, write_bundle

EXPECTED = {name: TensorPlan("int32", tensor.size) for name, tensor in STATE.items()}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_bundle(tmp_path / "small.gsqc"))


@pytest.fixture
def store(tmp_path: Path, bundle: Bundle) -> RunStore:
    store = RunStore(tmp_path / "runs" / "one", bundle)
    store.begin({"seed": 7})
    return store


def write_state(store: RunStore, tensors: dict[str, Any], metadata: dict[str, str] | None) -> None:
    save_file(tensors, store.path / "state.safetensors", metadata)


def test_a_saved_state_comes_back(store: RunStore, bundle: Bundle) -> None:
    assert store.load_state(EXPECTED) is None
    store.save_state(STATE, 3)
    tensors, step = RunStore(store.path, bundle).load_state(EXPECTED) or ({}, -1)
    assert step == 3
    for name in STATE:
        np.testing.assert_array_equal(tensors[name], STATE[name])
    assert RunStore(store.path, bundle).config["seed"] == 7


def test_a_save_without_a_config_writes_one(tmp_path: Path, bundle: Bundle) -> None:
    RunStore(tmp_path / "run", bundle).save_state(STATE, 1)
    assert RunStore(tmp_path / "run", bundle).load_state(EXPECTED) is not None


def test_opening_makes_no_directory(tmp_path: Path, bundle: Bundle) -> None:
    RunStore(tmp_path / "run", bundle)
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_bundle_is_refused(tmp_path: Path, store: RunStore) -> None:
    other = Bundle.open(write_bundle(tmp_path / "other.gsqc", state=other_state()))
    with pytest.raises(RunError, match="another bundle"):
        RunStore(store.path, other)


def test_a_state_of_another_bundle_is_refused(store: RunStore) -> None:
    write_state(store, STATE, {"step": "1", "bundle": "0" * 64})
    with pytest.raises(RunError, match="another bundle"):
        store.load_state(EXPECTED)


BAD_STATES: dict[str, dict[str, Any]] = {
    "missing": {"layers.0.q_a": STATE["layers.0.q_a"]},
    "extra": {**STATE, "more": np.zeros(1, np.int32)},
    "size": {**STATE, "layers.0.q_a": np.zeros(9, np.int32)},
    "dtype": {**STATE, "layers.0.q_a": np.zeros(8, np.float32)},
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_a_state_of_other_tensors_is_refused(store: RunStore, bundle: Bundle, kind: str) -> None:
    write_state(store, BAD_STATES[kind], {"step": "1", "bundle": bundle.meaning})
    with pytest.raises(RunError):
        store.load_state(EXPECTED)


@pytest.mark.parametrize("step", ["", "-1", "x", "9" * 5000, None])
def test_a_state_without_a_step_is_refused(
    store: RunStore, bundle: Bundle, step: str | None
) -> None:
    write_state(store, STATE, {"bundle": bundle.meaning} | ({} if step is None else {"step": step}))
    with pytest.raises(RunError):
        store.load_state(EXPECTED)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x10" + bytes(7) + b"{" * 16])
def test_a_state_that_is_none_is_refused(store: RunStore, content: bytes) -> None:
    (store.path / "state.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="is damaged"):
        store.load_state(EXPECTED)


def test_a_state_of_a_type_that_numpy_lacks_is_refused(store: RunStore, bundle: Bundle) -> None:
    header = {"__metadata__": {"step": "1", "bundle": bundle.meaning}}
    for k, name in enumerate(STATE):
        header[name] = {"dtype": "BF16", "shape": [1], "data_offsets": [2 * k, 2 * k + 2]}
    text = json.dumps(header).encode()
    (store.path / "state.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + bytes(4)
    )
    with pytest.raises(RunError):
        store.load_state(EXPECTED)


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, "{"])
def test_a_config_that_is_none_is_refused(store: RunStore, bundle: Bundle, content: str) -> None:
    (store.path / "config.json").write_text(content)
    with pytest.raises(RunError):
        RunStore(store.path, bundle)


def test_a_file_is_no_run_directory(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        RunStore(tmp_path / "file", bundle)
    with pytest.raises(RunError):
        RunStore(tmp_path / "file" / "run", bundle).begin({})


def test_a_full_disk_leaves_the_old_state_whole(store: RunStore, bundle: Bundle) -> None:
    """The system itself refuses to write, because files may not grow beyond 256 bytes."""
    store.save_state(STATE, 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, before[1]))
    try:
        with pytest.raises(RunError, match="disk full while saving"):
            store.save_state({name: tensor + 1 for name, tensor in STATE.items()}, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    tensors, step = RunStore(store.path, bundle).load_state(EXPECTED) or ({}, -1)
    assert step == 3
    np.testing.assert_array_equal(tensors["layers.0.q_a"], STATE["layers.0.q_a"])
    assert sorted(p.name for p in store.path.iterdir()) == ["config.json", "state.safetensors"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_any_point_leaves_the_old_state_whole(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.save_state(STATE, 3)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RunError, match="No space left"):
        store.save_state({name: tensor + 1 for name, tensor in STATE.items()}, 4)
    monkeypatch.undo()
    assert (store.load_state(EXPECTED) or ({}, -1))[1] == 3
    assert not list(store.path.glob(".*"))


def test_resume_cuts_the_log_after_the_saved_step(store: RunStore) -> None:
    for step in range(1, 6):
        store.append_log([{"step": step}])
    with (store.path / "log.jsonl").open("a") as file:
        file.write('not json\n[]\n{"step": null}\n{"step": 2')
    store.resume_log(3)
    lines = (store.path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_require_state(store: RunStore) -> None:
    require_state(None)
    with pytest.raises(RunError, match="no saved state"):
        require_state(store.path)
    store.save_state(STATE, 1)
    require_state(store.path)

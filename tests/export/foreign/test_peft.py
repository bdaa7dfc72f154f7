# SPDX-License-Identifier: Apache-2.0
"""A run begins with a PEFT directory: every number is exact, and refusals give a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AdapterPart, MatrixEntry
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.cli.main import main
from gsqc.export.fixed_point import to_float32, to_int32
from gsqc.runtime.store import RunStore
from tests.runtime.small_bundle import write_bundle

STATE = ["layers.0.q_a", "layers.0.q_b"]
NAMES = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight" for part in "AB"]
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 4,
    "lora_alpha": 8,
    "base_model_name_or_path": "a/toy",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with one linear of 6 inputs and 6 outputs, at rank 4."""
    names = ("layers.0.q_a", "layers.0.q_b")
    plan = Plan(buffers={"state": {name: TensorPlan("int32", 24) for name in names}})
    tensors = {name: np.zeros(24, np.int32) for name in names}
    kinds = {"model.layers.0.self_attn.q_proj.weight": "nf4"}
    shapes = dict(zip(names, (MatrixEntry(4, 6), MatrixEntry(6, 4)), strict=True))
    adapter = AdapterPart("lora", {"rank": 4, "alpha": 8}, ("q",), shapes)
    path = tmp_path / "small.gsqc"
    write_bundle(path, state=tensors, plan=plan, base_kinds=kinds, adapter=adapter)
    return Bundle.open(path)


def matrices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        NAMES[0]: rng.standard_normal((4, 6), np.float32),
        NAMES[1]: rng.standard_normal((6, 4), np.float32),
    }


def write(path: Path, tensors: dict[str, Any], **changes: Any) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def take(bundle: Bundle, path: Path, run: Path, *more: str) -> int:
    return main(["import", str(bundle.path), "--peft", str(path), "--run", str(run), *more])


def test_float_to_fixed_point_and_back() -> None:
    """Every number up to 1 is exact in float32, and ties go to even."""
    rng = np.random.default_rng(0)
    p = np.r_[rng.integers(-(2**24), 2**24 + 1, 10_000), 2**24, -(2**24), 1, 0].astype(np.int32)
    back, lost = to_int32(to_float32(p))
    np.testing.assert_array_equal(back, p)
    assert lost == 0
    ties = np.array([0.5, 1.5, -0.5, 2.5, 3.0], np.float32) * np.float32(2**-24)
    np.testing.assert_array_equal(to_int32(ties)[0], [0, 2, 0, 2, 3])
    assert to_int32(ties)[1] == 4
    large = np.array([2**30 - 1], np.int32)
    assert to_float32(large) == 64.0
    assert to_int32(to_float32(large))[0] == 2**30 - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_run_begins_with_the_adapter(bundle: Bundle, tmp_path: Path, dtype: Any) -> None:
    tensors = {name: m.astype(dtype) for name, m in matrices().items()}
    assert take(bundle, write(tmp_path / "peft", tensors), tmp_path / "run") == 0
    state, step = RunStore(tmp_path / "run", bundle).load_state(bundle.plan.buffers["state"]) or (
        {},
        -1,
    )
    assert step == 0
    for name, theirs in zip(STATE, NAMES, strict=True):
        exact = np.rint(tensors[theirs].astype(np.float64) * 2**24)
        np.testing.assert_array_equal(state[name], exact.reshape(-1))


def test_bfloat16(bundle: Bundle, tmp_path: Path) -> None:
    """In bfloat16, 0x3F80 is 1 and 0xC020 is -2.5."""
    path = write(tmp_path / "peft", matrices())
    patterns = np.resize(np.array([0x3F80, 0xC020], np.uint16), 48)
    header: dict[str, Any] = {
        NAMES[0]: {"dtype": "BF16", "shape": [4, 6], "data_offsets": [0, 48]},
        NAMES[1]: {"dtype": "BF16", "shape": [6, 4], "data_offsets": [48, 96]},
    }
    text = json.dumps(header).encode()
    (path / "adapter_model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + patterns.tobytes()
    )
    assert take(bundle, path, tmp_path / "run") == 0
    state, _ = RunStore(tmp_path / "run", bundle).load_state(bundle.plan.buffers["state"]) or (
        {},
        -1,
    )
    np.testing.assert_array_equal(state["layers.0.q_a"][:4], [2**24, -5 * 2**23] * 2)


BAD_SETTINGS = {
    "another kind": ({"peft_type": "VERA"}, "of the kind VERA, which gsqc does not take"),
    "dora": ({"use_dora": True}, "use_dora = true"),
    "bias": ({"bias": "all"}, 'bias = "all"'),
    "lora bias": ({"lora_bias": True}, "lora_bias"),
    "saved modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "alpha by a regex": ({"alpha_pattern": {"(a*)*q_proj": 8}}, "not a plain name"),
    "alpha by a list": ({"alpha_pattern": ["q_proj"]}, "alpha_pattern is no object"),
    "no alpha by name": ({"alpha_pattern": {"q_proj": 0}}, "and a number above 0"),
    "a later feature": ({"use_something": {"x": 1}}, "use_something"),
    "pissa": ({"init_lora_weights": "pissa"}, "changes the base"),
    "rank": ({"r": 8}, "at rank 4, its settings say 8"),
    "no rank": ({"r": None}, "its rank is null"),
    "alpha is missing": ({"lora_alpha": None}, "its alpha is null"),
    "alpha of zero": ({"lora_alpha": 0}, "its alpha is 0, not a number above 0"),
    "task": ({"task_type": "SEQ_CLS"}, "SEQ_CLS"),
    "base": (
        {"base_model_name_or_path": "other/model"},
        "the adapter is for other/model, the bundle was made from toy",
    ),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit(
    bundle: Bundle, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, text = BAD_SETTINGS[case]
    path = write(tmp_path / "peft", matrices(), **changes)
    assert take(bundle, path, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_every_problem_is_told_at_once(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "peft", matrices(), use_dora=True, lora_alpha=-1)
    assert take(bundle, path, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "use_dora" in error and "alpha is -1" in error


def test_another_name_of_the_base_is_taken_when_asked(bundle: Bundle, tmp_path: Path) -> None:
    path = write(
        tmp_path / "peft", matrices(), base_model_name_or_path="other/model", lora_dropout=0.1
    )
    assert take(bundle, path, tmp_path / "run", "--any-base") == 0


A, B = NAMES
BAD_TENSORS: dict[str, tuple[Any, str]] = {
    "missing": (lambda m: {A: m[A]}, "lora_A alone"),
    "more": (
        lambda m: {**m, "lm_head.weight": m[A]},
        "holds more than lora_A and lora_B of linears, first lm_head.weight",
    ),
    "shape": (lambda m: {**m, A: m[A][:, :5].copy()}, "has the shape [4, 5]"),
    "NaN": (lambda m: {**m, B: m[B] * np.float32(np.nan)}, "infinities or NaN"),
    "too large": (lambda m: {**m, B: m[B] + np.float32(100)}, "64 or more"),
    "integers": (lambda m: {**m, B: m[B].astype(np.int32)}, "has the type I32"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_that_do_not_fit(
    bundle: Bundle, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, text = BAD_TENSORS[case]
    path = write(tmp_path / "peft", change(matrices()))
    assert take(bundle, path, tmp_path / "run") == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_adapter(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "peft", matrices())
    for content in (b"[]", b"{", b"\xff", b"[" * 100_000):
        (path / "adapter_config.json").write_bytes(content)
        assert take(bundle, path, tmp_path / "run") == 2
        assert "is not a JSON object" in capsys.readouterr().err
    (path / "adapter_config.json").write_text(json.dumps(CONFIG))
    (path / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    assert take(bundle, path, tmp_path / "run") == 2
    assert "damaged" in capsys.readouterr().err
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    assert take(bundle, path, tmp_path / "run") == 2
    assert "pickle" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_what_is_no_plain_file(
    bundle: Bundle, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "peft", matrices())
    (path / name).unlink()
    os.mkfifo(path / name)
    assert take(bundle, path, tmp_path / "run") == 2
    assert "it is a FIFO" in capsys.readouterr().err
    (path / name).unlink()
    (path / name).mkdir()
    assert take(bundle, path, tmp_path / "run") == 2
    assert "it is a directory" in capsys.readouterr().err
    for other in ("a" * 5000, "a" * 300):
        assert take(bundle, tmp_path / other, tmp_path / "run") == 2
        assert "has no adapter_config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", [[], {}, -1, 2**70, 1e308, None, "a" * 10**5, "\ud800", {"a": [[[]]]}, True]
)
def test_settings_of_other_types(
    bundle: Bundle, tmp_path: Path, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is read or refused in a line, and none is a traceback."""
    names = (*CONFIG, "lora_dropout", "init_lora_weights", "target_modules", "bias", "n" * 10**4)
    for number, name in enumerate(names):
        path = write(tmp_path / str(number), matrices(), **{name: value})
        assert take(bundle, path, tmp_path / f"run{number}") in (0, 2)
        assert len(capsys.readouterr().err) < 3000


def test_a_run_with_a_state_is_not_overwritten(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "peft", matrices())
    assert take(bundle, path, tmp_path / "run") == 0
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    assert take(bundle, path, tmp_path / "run") == 2
    assert "already holds a state" in capsys.readouterr().err
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before

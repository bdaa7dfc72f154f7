# SPDX-License-Identifier: Apache-2.0
"""Golden digests: a file of them, and those that a bundle carries, hold a bundle to its bits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.manifest import TargetPart
from gsqc.check import first_digests, steppers
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.errors import BundleError, TargetError
from tests.runtime.small_bundle import STATE, FakeSession, write_bundle

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _fake_session(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (steppers, first_digests):
        monkeypatch.setattr(module, "Session", FakeSession)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.gsqc")


@pytest.fixture
def file(bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "golden" / "small.json"
    assert main(["check", str(bundle), "--golden", str(path), "--update"]) == 0
    return path


def run(capsys: Capture, *arguments: object) -> tuple[int, str]:
    """The exit code and the printed text."""
    capsys.readouterr()
    code = main(["check", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def change(file: Path, alter: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    alter(content)
    file.write_text(json.dumps(content))


def test_equal_digests(bundle: Path, file: Path, capsys: Capture) -> None:
    code, out = run(capsys, bundle, "--golden", file, "--on", "numpy,native")
    assert code == 0
    assert f"equal to {file} after each of 3 steps" in out
    assert run(capsys, bundle, "--golden", file, "--steps", 2)[0] == 0
    content = json.loads(file.read_text())
    assert content["steps"] == run_check(bundle, ["numpy"], 3).targets["numpy"]
    assert len(file.read_text().splitlines()) > 20  # one fact in each line


def test_every_target_is_compared(
    bundle: Path, file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSession, "wrong_target", "native")
    code, out = run(capsys, bundle, "--golden", file, "--on", "numpy,native")
    assert code == 1
    assert "step 2 on native: " in out
    assert "the machine changed" in out
    assert "--on numpy,native" in out
    before = file.read_text()
    code, out = run(capsys, bundle, "--golden", file, "--on", "numpy,native", "--update")
    assert code == 1
    assert f"{file} was not written" in out
    assert file.read_text() == before


def test_the_first_difference(bundle: Path, file: Path, capsys: Capture) -> None:
    given = json.loads(file.read_text())["steps"]
    change(file, lambda c: c["steps"].__setitem__(1, "0" * 64))
    code, out = run(capsys, bundle, "--golden", file)
    assert code == 1
    assert f"step 2 on native: {given[1][:16]}, and {file} says {'0' * 16}" in out


@pytest.mark.parametrize(
    ("alter", "changed", "sentence"),
    [
        (lambda c: None, "machine", "the machine changed"),
        (lambda c: c["written"].update(gsqc="0.0.1"), "gsqc", "written by gsqc 0.0.1"),
        (lambda c: c["written"].update(code="0"), "code", "compiled code changed"),
        (
            lambda c: c["contents"].update(plan="0"),
            "bundle",
            "changed since the file was written: plan",
        ),
    ],
)
def test_what_changed(
    bundle: Path, file: Path, alter: Callable[[dict[str, Any]], object], changed: str, sentence: str
) -> None:
    change(file, lambda c: c["steps"].__setitem__(2, "0" * 64))
    change(file, alter)
    (comparison,) = run_check(bundle, ["native"], 3, golden=file).golden
    assert comparison.difference is not None
    assert (comparison.difference.step, comparison.difference.changed) == (3, changed)
    assert sentence in comparison.difference.sentence


def test_a_bundle_compiled_anew_may_give_the_same_bits(tmp_path: Path, file: Path) -> None:
    """Other code is no difference, another initial state is one."""
    same = write_bundle(
        tmp_path / "same.gsqc", targets={"numpy": TargetPart("numpy", rank=0, code_bytes=31)}
    )
    assert run_check(same, ["native"], 3, golden=file).passed
    other = write_bundle(
        tmp_path / "other.gsqc", state={name: tensor + 1 for name, tensor in STATE.items()}
    )
    (comparison,) = run_check(other, ["native"], 3, golden=file).golden
    assert comparison.difference is not None
    assert comparison.difference.sentence.endswith(": state.")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no file"),
        ("{", "it is not JSON"),
        ("[]", "its format is None, not gsqc-golden-1"),
        ('{"format": "gsqc-golden-0"}', "its format is gsqc-golden-0"),
        ('{"format": "gsqc-golden-1", "seed": 0}', "is a damaged golden file"),
    ],
)
def test_a_file_that_is_none(
    bundle: Path, tmp_path: Path, capsys: Capture, content: str | None, sentence: str
) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    code, out = run(capsys, bundle, "--golden", path)
    assert code == 2
    assert sentence in out
    assert "--update" in out


@pytest.mark.parametrize("steps", [[], ["short"], [1], None, "x"])
def test_digests_that_are_none(bundle: Path, file: Path, capsys: Capture, steps: Any) -> None:
    change(file, lambda c: c.update(steps=steps))
    code, out = run(capsys, bundle, "--golden", file)
    assert (code, "is a damaged golden file" in out) == (2, True)


def test_a_file_that_does_not_fit(
    bundle: Path, file: Path, tmp_path: Path, capsys: Capture
) -> None:
    code, out = run(capsys, bundle, "--golden", file, "--steps", 4)
    assert (code, "3 steps, and 4 were asked for" in out) == (2, True)
    code, out = run(capsys, bundle, "--golden", file, "--seed", 1)
    assert (code, "of seed 0, not of 1" in out) == (2, True)
    other = write_bundle(tmp_path / "other.gsqc", bits="4-6-6", batch=1)
    code, out = run(capsys, other, "--golden", file)
    assert code == 2
    assert "another bundle: bits 4-8-8 in place of 4-6-6; batch 2 in place of 1" in out
    code, out = run(capsys, bundle, "--update")
    assert (code, "--golden FILE" in out) == (2, True)
    assert run(capsys, bundle, "--golden", tmp_path, "--update")[0] == 2


def carrying(bundle: Path, path: Path, **changes: Any) -> Path:
    """The bundle, with the digests of its first steps in its manifest."""
    golden = first_digests.take_first_digests(bundle, say=print)
    assert golden is not None
    return write_bundle(path, golden=replace(golden, **changes))


def test_a_bundle_carries_its_digests(
    bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = carrying(bundle, tmp_path / "own.gsqc")
    code, out = run(capsys, own)
    assert code == 0
    assert "equal to the compiling machine after each of 3 steps" in out
    assert run(capsys, own, "--steps", 5)[0] == 0
    code, out = run(capsys, own, "--seed", 1)
    assert (code, "nothing to compare with" in out) == (1, True)
    monkeypatch.setattr(FakeSession, "wrong_target", "native")
    code, out = run(capsys, own)
    assert code == 1
    assert "This machine computes other bits than the one that compiled the bundle." in out
    code, out = run(capsys, own, "--golden", tmp_path / "x.json", "--update")
    assert (code, (tmp_path / "x.json").exists()) == (1, False)


def test_altered_digests_in_a_bundle(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    altered = carrying(bundle, tmp_path / "altered.gsqc", steps=("0" * 64,) * 3)
    code, out = run(capsys, altered)
    assert (code, "step 1 on native" in out) == (1, True)
    for number, wrong in enumerate([{"steps": ("x",)}, {"steps": ()}]):
        malformed = carrying(bundle, tmp_path / f"{number}.gsqc", **wrong)
        with pytest.raises(BundleError, match="golden digests in the bundle's manifest"):
            run_check(malformed, ["native"], 3)


@pytest.mark.needs_target("llvm")  # without it, numpy is the machine's best target
def test_numpy_takes_the_first_steps_of_a_small_bundle_only(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine can run neither the bundle's code nor code compiled for it."""

    class NumpyOnly(FakeSession):
        def __init__(self, *args: Any, target: str | None = None, **kwargs: Any) -> None:
            if target != "numpy":
                raise TargetError("no such CPU here", "use another machine")
            super().__init__(*args, target=target, **kwargs)

    def cannot(*_: object) -> None:
        raise TargetError("no compiler for this CPU", "use another machine")

    monkeypatch.setattr(first_digests, "Session", NumpyOnly)
    monkeypatch.setattr(first_digests, "open_checked", cannot)
    said: list[str] = []
    golden = first_digests.take_first_digests(bundle, say=said.append)
    assert golden is not None
    assert (golden.target, len(golden.steps), said) == ("numpy", 3, [])
    monkeypatch.setattr(first_digests, "NUMPY_LIMIT", -1)
    assert first_digests.take_first_digests(bundle, say=said.append) is None
    assert "too large for numpy (no compiler for this CPU)" in said[0]


def test_a_golden_file_is_a_plain_file(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, why in (
        ("fifo", "it is a FIFO"),
        (".", "it is a directory"),
        ("a" * 300, "too long"),
    ):
        code, out = run(capsys, bundle, "--golden", tmp_path / name)
        assert (code, out.count("\n")) == (2, 1), out
        assert why in out

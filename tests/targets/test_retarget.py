# SPDX-License-Identifier: Apache-2.0
"""Code for another target in a bundle: what is kept, what goes, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import RUNNER, file_sha256
from gsqc.bundle.manifest import FirstSteps, ProgramEntry, TargetPart
from gsqc.bundle.writer import BundleWriter
from gsqc.check import steppers
from gsqc.check.steppers import Settings, locate_code
from gsqc.cli.main import main
from gsqc.errors import BundleError, TargetError
from gsqc.targets import registry
from gsqc.targets.interface import Code, CodeJob
from gsqc.targets.numpy.target import NumpyTarget
from gsqc.targets.retarget import Retargeting, retarget
from tests.runtime.small_bundle import CODE, manifest, small_plan, write_bundle

Capture = pytest.CaptureFixture[str]
GOLDEN = FirstSteps(0, ("0" * 64,), "numpy")


class Abacus(NumpyTarget):
    """A target whose code is a file."""

    def __init__(self, name: str = "abacus", rank: int | None = 3, error: str = "") -> None:
        self.name, self.native_rank, self.error, self.runs_any_bundle = name, rank, error, False

    def add_code(self, bundle: BundleWriter, job: CodeJob) -> Code:
        bundle.add_bytes(self.code_file("beads"), b"12")
        if self.error:
            raise TargetError(self.error, "oil it")
        return Code(replace(self.entry(), code_bytes=2))

    def refusal(self, entry: TargetPart) -> TargetError | None:
        return TargetError(self.error, "oil it") if self.error else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bundle with code, a runner and a program that this test made."""
    path = tmp_path / "small.gsqc"
    write_bundle(path)
    with BundleWriter(path, force=True) as writer:
        for name in ("state.safetensors", "tokenizer.json"):
            writer.add_file(Bundle.open(path), name)
        writer.add_bytes(CODE, b"code")
        writer.add_bytes(f"code/numpy/{RUNNER}", b"runner", mode=0o755)
        writer.add_bytes("programs/f.tosa", b"tosa")
        programs = {"f": ProgramEntry(("x",), ("y",), 1)}
        writer.finish(replace(manifest(), golden=GOLDEN, programs=programs), small_plan())
    return path


def everything(path: Path) -> dict[str, str]:
    """The hash of every file below the folder of a bundle, and of what else lies there."""
    return {str(p): file_sha256(p) for p in path.parent.rglob("*") if p.is_file()}


def test_code_is_added_beside_the_other(path: Path) -> None:
    before = Bundle.open(path)
    retarget(before, Abacus("abacus:oak"), path, Retargeting(force=True))
    after = Bundle.open(path)
    assert set(after.files) == {*before.files, "code/abacus-oak/beads"}
    assert after.manifest.targets == {
        **before.manifest.targets,
        "abacus:oak": TargetPart("abacus:oak", rank=3, code_bytes=2),
    }
    assert (after.meaning, after.manifest.golden) == (before.meaning, GOLDEN)
    assert after.files[f"code/numpy/{RUNNER}"].stat().st_mode & 0o777 == 0o755
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_only_leaves_no_byte_of_other_code(path: Path) -> None:
    before = Bundle.open(path)
    retarget(before, Abacus(), path, Retargeting(only=True, force=True))
    after = Bundle.open(path)
    assert list(after.manifest.targets) == ["abacus"]
    assert (after.manifest.programs, after.manifest.golden) == ({}, GOLDEN)
    assert after.meaning == before.meaning
    left = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    data = {"plan.json", "state.safetensors", "tokenizer.json"}
    assert left == {*data, "manifest.json", "code/abacus/beads"}


def test_code_that_is_there_is_made_anew(path: Path, tmp_path: Path) -> None:
    retarget(Bundle.open(path), Abacus("numpy"), tmp_path / "new.gsqc")
    files = Bundle.open(tmp_path / "new.gsqc").files
    assert [n for n in files if n.startswith("code/")] == ["code/numpy/beads"]


@pytest.mark.parametrize("only", [False, True])
def test_a_failure_leaves_the_bundle_whole(path: Path, only: bool) -> None:
    before = everything(path)
    with pytest.raises(TargetError, match="rusty"):
        retarget(Bundle.open(path), Abacus(error="rusty"), path, Retargeting(only=only, force=True))
    assert everything(path) == before


def test_only_takes_no_file_that_it_does_not_know(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "odd.gsqc") as writer:
        writer.add_bytes("lib/helper.so", b"code")
        writer.finish(manifest(), small_plan())
    odd = Bundle.open(tmp_path / "odd.gsqc")
    with pytest.raises(BundleError, match=r"does not know: lib/helper\.so"):
        retarget(odd, Abacus(), tmp_path / "new.gsqc", Retargeting(only=True))
    assert not (tmp_path / "new.gsqc").exists()


# -------------------------------------------------------------------------------------------------
# which code runs


def with_targets(path: Path, monkeypatch: pytest.MonkeyPatch, *targets: Abacus) -> Bundle:
    """A bundle with code for targets that exist for this test alone."""
    known = {target.name: target for target in targets}
    monkeypatch.setattr(registry, "find_target", lambda name: known[name])
    entries = {target.name: target.entry() for target in targets}
    return Bundle.open(write_bundle(path, targets=entries))


@pytest.mark.parametrize(
    ("targets", "best"),
    [
        ([Abacus("a", 1), Abacus("b", 2)], "b"),
        ([Abacus("b", 2), Abacus("a", 1)], "b"),
        ([Abacus("a", 1), Abacus("b", 2, "rusty")], "a"),
        ([Abacus("a", 1), Abacus("accelerator", None)], "accelerator"),
    ],
)
def test_the_best_code_that_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: list[Abacus], best: str
) -> None:
    bundle = with_targets(tmp_path / "a.gsqc", monkeypatch, *targets)
    assert registry.best_target(bundle).name == best


def test_without_code_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rusty, wet = Abacus("a", error="rusty"), Abacus("b", error="wet")
    bundle = with_targets(tmp_path / "a.gsqc", monkeypatch, rusty, wet)
    with pytest.raises(
        TargetError, match=r"(?m)cannot run the bundle's code \(a: rusty; b: wet\)$"
    ):
        registry.best_target(bundle)


@pytest.mark.parametrize("has_runner", [False, True])
def test_an_emulator_runs_the_bundles_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_runner: bool
) -> None:
    """A check compiles only what the bundle lacks."""

    class Elsewhere(Abacus):
        def runner_command(self, bundle: Path) -> list[str] | None:
            return ["emulator", str(bundle / self.code_file(RUNNER))]

    path = tmp_path / "a.gsqc"
    elsewhere = Elsewhere("elsewhere", 1, "another machine")
    bundle = with_targets(path, monkeypatch, elsewhere)
    if has_runner:
        bundle.files[elsewhere.code_file(RUNNER)] = path
    compiled: list[str] = []

    def compile_now(bundle: Bundle, target: Any, folder: Path) -> tuple[Path, None]:
        compiled.append(target.name)
        return folder, None

    monkeypatch.setattr(steppers, "open_checked", compile_now)
    place, command = locate_code("native", Settings(bundle, tmp_path, 1, 0, None), print)
    expected = ["emulator", str(path / "code/elsewhere" / RUNNER)] if has_runner else None
    assert (place == path, command) == (has_runner, expected)
    assert compiled == ([] if has_runner else ["elsewhere"])


# -------------------------------------------------------------------------------------------------
# the command


def test_the_command(path: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.gsqc"
    assert main(["retarget", str(path), "--target", "numpy", "-o", str(other), "--only"]) == 0
    out = capsys.readouterr().out
    assert f"{path} has code for numpy already: it is made anew" in out
    assert f"wrote {other} with code for numpy\n" in out
    assert Bundle.open(other).meaning == Bundle.open(path).meaning
    assert CODE not in Bundle.open(other).files
    assert main(["retarget", str(path), "--target", "numpy"]) == 0
    assert CODE not in Bundle.open(path).files


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "sundial"], "unknown target sundial"),
        (["--target", "numpy", "--runner"], "gsqc-step runs CPU code, not numpy"),
        (["--target", "numpy-programs"], "is for checks"),
        (["--target", "numpy", "-o", "{folder}"], "exists"),
    ],
)
def test_wrong_options(path: Path, capsys: Capture, arguments: list[str], said: str) -> None:
    before = everything(path)
    given = [argument.format(folder=path.parent) for argument in arguments]
    assert main(["retarget", str(path), *given]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert everything(path) == before


@pytest.mark.needs_target("llvm")
def test_making_code_needs_the_compiler(
    path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    assert main(["retarget", str(path), "--target", "x86-64"]) == 2
    assert "pip install 'gsqc[compiler]'" in capsys.readouterr().err


@pytest.mark.needs_target("arm_npu", "tosa")
def test_options_of_another_target(path: Path, capsys: Capture) -> None:
    assert main(["retarget", str(path), "--target", "numpy", "--sram-kib", "3"]) == 2
    assert "numpy takes no --sram-kib" in capsys.readouterr().err


def test_a_bundle_of_another_format(path: Path, capsys: Capture) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"format_version":4', '"format_version":1'))
    assert main(["retarget", str(path), "--target", "numpy"]) == 2
    assert "has format 1, this gsqc reads format 4" in capsys.readouterr().err

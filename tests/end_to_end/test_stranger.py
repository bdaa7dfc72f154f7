# SPDX-License-Identifier: Apache-2.0
"""A stranger's run directory changes no file of the user and runs no code of the stranger."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gsqc.cli.main import main
from gsqc.targets.trust import record_file
from tests.campaign.kinds import write_known

LINKED = ("lock", "config.json", "config.toml", "log.jsonl", "state.safetensors")
FIXED_NAMES = (".state.safetensors.tmp", ".config.json.tmp", ".config.toml.tmp", ".lock.tmp")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "notes.jsonl"
    file.write_text("".join(f'{{"prompt": "a{k}", "completion": "b{k}"}}\n' for k in range(5)))
    return file


@pytest.fixture(scope="module")
def theirs(bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one step of three."""
    run = tmp_path_factory.mktemp("theirs") / "run"
    arguments = [str(bundle), "--data", str(data), "--run", str(run), "--steps"]
    assert main(["train", *arguments, "1"]) == 0
    settings = run / "config.toml"
    settings.write_text(settings.read_text().replace("steps = 1", "steps = 3"))
    return run


@pytest.fixture
def run(theirs: Path, tmp_path: Path) -> Path:
    """A copy of the run, beside a file of the user's."""
    shutil.copytree(theirs, tmp_path / "run")
    (tmp_path / "profile").write_text("mine")
    return tmp_path / "run"


def resume(run: Path) -> int:
    return main(["train", "--resume", str(run)])


@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize("name", [*LINKED, *FIXED_NAMES])
def test_a_link_in_a_run_leads_to_no_write(run: Path, name: str, kind: str) -> None:
    """Each was written through before, and the next shell ran what stood there."""
    mine = run.parent / "profile"
    (run / name).unlink(missing_ok=True)
    if kind == "link":
        (run / name).symlink_to(mine)
    else:
        os.link(mine, run / name)
    code = resume(run)
    assert mine.read_text() == "mine" and not mine.is_symlink()
    # A log is replaced as a whole, so another name of it keeps what it had.
    assert code == (0 if name in FIXED_NAMES or (name, kind) == ("log.jsonl", "hard link") else 2)


@pytest.mark.parametrize("name", [*LINKED, "best.safetensors"])
def test_a_fifo_in_a_run_makes_nobody_wait(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    code = resume(run)
    assert code == (0 if name == "best.safetensors" else 2)
    if code:
        assert "FIFO" in capsys.readouterr().err


def forget(state_home: Path) -> None:
    """From now on no code is known as this user's own."""
    record_file().unlink(missing_ok=True)
    assert str(record_file()).startswith(str(state_home))


@pytest.mark.needs_target("llvm")
def test_code_of_a_bundle_that_a_run_names_must_be_trusted(
    run: Path, bundle: Path, state_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run) == 0, "own work costs no question"
    shutil.rmtree(run)
    forget(state_home)
    try:
        fresh = ["--data", str(run.parent / "notes.jsonl"), "--run", str(run), "--steps"]
        (run.parent / "notes.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        assert main(["train", str(bundle), *fresh, "1"]) == 0, "the user named this bundle"
        settings = run / "config.toml"
        settings.write_text(settings.read_text().replace("steps = 1", "steps = 2"))
        capsys.readouterr()
        assert resume(run) == 2
        error = capsys.readouterr().err
        assert f"gsqc trust {bundle}" in error and f"gsqc retarget {bundle}" in error
        assert main(["train", "--config", str(settings), "--run", f"{run}2"]) == 2
        assert main(["trust", str(bundle)]) == 2, "nobody can confirm without a terminal"
        assert resume(run) == 2
        assert main(["trust", str(bundle), "--yes"]) == 0
        assert resume(run) == 0
    finally:
        assert main(["trust", str(bundle), "--yes"]) == 0


@pytest.mark.needs_target("llvm")
def test_code_made_anew_is_ones_own(
    run: Path, bundle: Path, state_home: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.gsqc"
    shutil.copytree(bundle, copy)
    settings = run / "config.toml"
    settings.write_text(settings.read_text().replace(str(bundle), str(copy)))
    forget(state_home)
    try:
        assert resume(run) == 2
        assert main(["retarget", str(copy), "--target", "native", "--only"]) == 0
        assert resume(run) == 0
    finally:
        assert main(["trust", str(bundle), "--yes"]) == 0


def test_numbers_that_gsqc_never_writes_are_no_fault_of_gsqc(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled code makes wrong results of them, as docs/security.md says. numpy checks ranges."""
    theirs = tmp_path / "theirs.gsqc"
    shutil.copytree(bundle, theirs)
    base = (theirs / "base.safetensors").read_bytes()
    start = 8 + int.from_bytes(base[:8], "little")
    write_known(theirs / "base.safetensors", base[:start] + b"\x7f" * (len(base) - start))
    assert main(["check", str(theirs), "--on", "numpy", "--steps", "1"]) == 2
    said = capsys.readouterr().err
    assert "the bundle's numbers are none that gsqc writes" in said
    assert "has a fault" not in said

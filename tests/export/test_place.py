# SPDX-License-Identifier: Apache-2.0
"""An export is complete or absent, and overwrites nothing that the user did not name for it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.errors import ExportError
from gsqc.export.place import check_place, new_directory, new_file
from tests.export.foreign.test_peft import bundle, matrices, take, write
from tests.runtime.small_bundle import other_state, write_bundle

__all__ = ["bundle"]


def check(path: Path, force: bool, directory: bool) -> None:
    check_place(path, force=force, option="--to", directory=directory)


def test_what_may_be_overwritten(tmp_path: Path) -> None:
    full, empty, nested = tmp_path / "full", tmp_path / "empty", tmp_path / "nested"
    for folder in (full, empty, nested / "inner"):
        folder.mkdir(parents=True)
    (full / "a").write_text("mine")
    check(tmp_path / "absent", False, True)
    check(empty, False, True)
    check(full, True, True)
    check(full / "a", True, False)
    cases = [
        (full, False, True),
        (full / "a", False, False),
        (nested, True, True),
        (full, True, False),
    ]
    for path, force, directory in [*cases, (full / "a", True, True)]:
        with pytest.raises(ExportError):
            check(path, force, directory)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writes beyond the limit fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "a").write_text("old")
    file.write_text("old")
    with (
        no_file_above(100),
        pytest.raises(ExportError, match="no partial file is left"),
        new_directory(folder) as work,
    ):
        (work / "a").write_bytes(bytes(1000))
    with no_file_above(100), pytest.raises(ExportError), new_file(file) as place:
        place.write_bytes(bytes(1000))
    assert (folder / "a").read_text() == file.read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "file"}


def test_a_directory_takes_its_place_whole(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    with new_directory(tmp_path / "out") as work:
        (work / "new").write_text("")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def run_export(bundle_path: Path, run: Path, *arguments: object) -> int:
    return main(["export", str(bundle_path), "--run", str(run), *map(str, arguments)])


def test_a_full_disk_ends_in_a_sentence(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundle.path
    take(bundle, write(tmp_path / "peft", matrices()), tmp_path / "run")
    before = {p.name for p in tmp_path.iterdir()}
    with no_file_above(200):
        assert run_export(path, tmp_path / "run", "--peft", tmp_path / "out") == 2
        assert run_export(path, tmp_path / "run", "--gguf", tmp_path / "lora.gguf") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all("cannot write" in line for line in errors)
    assert {p.name for p in tmp_path.iterdir()} == before


BAD_CALLS: dict[str, tuple[list[str], str]] = {
    "nothing to do": ([], "nothing to export"),
    "dtype": (["--merged", "{out}", "--dtype", "q8_0"], "--dtype q8_0 is not for a directory"),
    "base": (["--merged", "{out}", "--base", "best"], "--base best is not one of trained"),
    "dtype of nothing": (["--peft", "{out}", "--dtype", "f16"], "--dtype is for a merged model"),
    "one place twice": (["--gguf", "{out}", "--merged", "{out}"], "the same place"),
    "no model told": (["--merged", "{out}"], "--model"),
    "absent model": (["--merged", "{out}", "--model", "absent"], "absent"),
    "in the way": (["--peft", "{peft}"], "is not empty"),
    "a file in the way": (["--peft", "{peft}/adapter_config.json"], "is a file"),
    "a directory in the way": (["--gguf", "{peft}"], "is a directory"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_calls_that_are_refused(
    bundle: Bundle, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, text = BAD_CALLS[case]
    peft = write(tmp_path / "peft", matrices())
    take(bundle, peft, tmp_path / "run")
    capsys.readouterr()
    given = [a.format(out=tmp_path / "out", peft=peft) for a in arguments]
    assert run_export(bundle.path, tmp_path / "run", *given) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_state_is_no_export(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_export(bundle.path, tmp_path / "absent", "--peft", tmp_path / "out") == 2
    assert "no saved state" in capsys.readouterr().err


def test_a_run_of_another_bundle_is_no_export(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(bundle, write(tmp_path / "peft", matrices()), tmp_path / "run")
    other = write_bundle(tmp_path / "other.gsqc", state=other_state())
    assert run_export(other, tmp_path / "run", "--peft", tmp_path / "out") == 2
    assert "belongs to another bundle" in capsys.readouterr().err


def test_an_export_may_be_repeated_with_force(bundle: Bundle, tmp_path: Path) -> None:
    take(bundle, write(tmp_path / "peft", matrices()), tmp_path / "run")
    for _ in range(2):
        assert run_export(bundle.path, tmp_path / "run", "--peft", tmp_path / "out", "--force") == 0
    exported = np.fromfile(tmp_path / "out" / "adapter_model.safetensors", np.uint8)
    assert exported.size > 48 * 4

# SPDX-License-Identifier: Apache-2.0
"""gsqc-step in a run directory of a stranger: it writes through no link, and reads plain files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gsqc.targets.llvm.sources import FOLDER
from tests.runner.steps import STATE, runner_command

CONFIG, LOCK, LOG = "config.json", "lock", "log.jsonl"
PRECIOUS = "a file of the user\n"
SECONDS = 60


def step(bundle: Path, tokens: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """gsqc-step as a process that has ended."""
    return subprocess.run(
        [*runner_command(bundle, tokens, run), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@pytest.fixture(scope="module")
def begun(bundle: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    run = tmp_path_factory.mktemp("begun") / "run"
    done = step(bundle, tokens, run, "--steps", "1")
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user, which no run may change."""
    file = tmp_path / "precious"
    file.write_text(PRECIOUS)
    return file


def test_only_one_function_opens_for_writing() -> None:
    """`open_plain` in files.c refuses links and whatever is no plain file."""
    writes = re.compile(r"\b(creat|fopen|freopen|fopen64|tmpfile|mkstemps?)\s*\(|O_CREAT|O_TRUNC")
    opens = re.compile(r"\bopen(at)?\s*\((?!.*\b(O_DIRECTORY|O_RDONLY)\b)")
    allowed = {
        ("files.c", "int descriptor = openat(place, name, flags | O_CLOEXEC | O_NONBLOCK, 0666);"),
        ("machine.c", 'FILE *file = fopen("/proc/cpuinfo", "r");'),
    }
    found = set()
    for file in [*FOLDER.glob("*.c"), *FOLDER.glob("library/*.c")]:
        for line in file.read_text().splitlines():
            if "open_output(" in line or line.lstrip().startswith(("/*", "*")):
                continue
            if writes.search(line) or opens.search(line):
                found.add((file.name, line.strip()))
    assert found == allowed


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to], ids=["link", "hard link"])
def test_a_lock_that_leads_to_another_file_is_refused(
    bundle: Path,
    tokens: Path,
    run: Path,
    precious: Path,
    make: Callable[[Path, Path], None],
) -> None:
    (run / LOCK).unlink()
    make(run / LOCK, precious)
    done = step(bundle, tokens, run)
    assert (done.returncode, "link" in done.stderr) == (2, True), done.stderr
    assert precious.read_text() == PRECIOUS


@pytest.mark.parametrize("name", [CONFIG, STATE, LOG])
def test_a_link_in_a_run_is_refused(
    bundle: Path, tokens: Path, run: Path, tmp_path: Path, name: str
) -> None:
    """It is not read either: its content may be of any file."""
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    done = step(bundle, tokens, run)
    expected = f"{name}: it is a link, not a plain file"
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
    assert (tmp_path / "elsewhere").read_bytes() == before


@pytest.mark.parametrize("name", [CONFIG, STATE, LOG, LOCK])
@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "FIFO"), (os.mkdir, "directory")], ids=["fifo", "directory"]
)
def test_what_is_no_plain_file_is_named(
    bundle: Path,
    tokens: Path,
    run: Path,
    name: str,
    make: Callable[[Path], None],
    what: str,
) -> None:
    (run / name).unlink()
    make(run / name)
    done = step(bundle, tokens, run)
    expected = f"{name}: it is a {what}, not a plain file"
    assert (done.returncode, expected in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("name", ["manifest.json", "plan.json", "base.safetensors"])
@pytest.mark.parametrize("what", ["FIFO", "link"])
def test_a_bundle_holds_plain_files(
    bundle: Path, tokens: Path, tmp_path: Path, name: str, what: str
) -> None:
    copy = tmp_path / "copy.gsqc"
    shutil.copytree(bundle, copy)
    (copy / name).unlink()
    if what == "FIFO":
        os.mkfifo(copy / name)
    else:
        (copy / name).symlink_to(bundle / name)
    done = step(copy, tokens, tmp_path / "run")
    assert (done.returncode, f"is a {what}" in done.stderr) == (2, True), done.stderr


def test_a_token_file_may_be_a_link_and_no_fifo(bundle: Path, tokens: Path, tmp_path: Path) -> None:
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(tokens)
    os.mkfifo(fifo)
    assert step(bundle, link, tmp_path / "run", "--steps", "1").returncode == 0
    done = step(bundle, fifo, tmp_path / "run")
    assert (done.returncode, "it is a FIFO" in done.stderr) == (2, True), done.stderr


def test_temporary_names_cannot_be_guessed(
    bundle: Path, tokens: Path, run: Path, precious: Path
) -> None:
    """What gsqc-step once wrote through."""
    for name in (STATE, CONFIG, LOG):
        (run / f"{name}.tmp").symlink_to(precious)
        (run / f".{name}.tmp").symlink_to(precious)
    done = step(bundle, tokens, run, "--steps", "2")
    assert (done.returncode, precious.read_text()) == (0, PRECIOUS), done.stderr
    assert not list(run.glob(".*[0-9a-f].tmp"))


def test_left_over_temporary_files_go(bundle: Path, tokens: Path, run: Path) -> None:
    """Those of Python too, which has the same names. Other files stay."""
    digits = "0123456789abcdef"
    left = [f".{name}.{digits}.tmp" for name in (STATE, CONFIG, LOG, "best.safetensors")]
    others = [f".notes.{digits}.tmp", f"{STATE}.tmp", f".{STATE}.{digits[1:]}.tmp"]
    for name in (*left, *others):
        (run / name).write_bytes(b"x")
    done = step(bundle, tokens, run, "--steps", "2")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert f"{run}: removed 4 temporary files" in done.stderr
    assert not [name for name in left if (run / name).exists()]
    assert all((run / name).exists() for name in others)


def test_a_trace_replaces_a_link(
    bundle: Path, tokens: Path, tmp_path: Path, precious: Path
) -> None:
    for name in ("trace", "trace.values"):
        (tmp_path / name).symlink_to(precious)
    traced = ["--steps", "1", "--trace", str(tmp_path / "trace"), "--trace-call", "2"]
    done = step(bundle, tokens, tmp_path / "run", *traced)
    assert (done.returncode, precious.read_text()) == (0, PRECIOUS), done.stderr
    assert (tmp_path / "trace").read_text().startswith("prepared ")
    assert not (tmp_path / "trace").is_symlink()
    assert (tmp_path / "trace.values").stat().st_size and not list(tmp_path.glob(".*.tmp"))

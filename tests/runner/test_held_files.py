# SPDX-License-Identifier: Apache-2.0
"""What gsqc-step hashed is what it uses: files that are changed while it trains."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runner.steps import STATE, runner_command
from tests.runner.test_saving import Running, failed, logged, saved

BASE = "base.safetensors"


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle, tmp_path / "copy.gsqc")
    return tmp_path / "copy.gsqc"


def flip(path: Path) -> None:
    """Change the last bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(-16, os.SEEK_END)
        last = file.read()
        file.seek(-16, os.SEEK_END)
        file.write(bytes(b ^ 1 for b in last))


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [flip, shorten])
def test_a_change_of_the_base_ends_with_the_last_save(
    copy: Path, bundle: Path, many: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """The run goes on from there with a whole bundle, with the digests of an undisturbed one."""
    running = Running(copy, many, tmp_path / "run", "--save-every", "5")
    running.read_until((running.run / STATE).exists)
    change(copy / BASE)
    code, text = running.end()
    assert (code, text.count("\n")) == (2, 1), text
    assert f"error: {copy / BASE} was changed while it was used" in text
    step, digest = saved(bundle, running.run)
    assert logged(running.run)[step - 1] == digest
    shutil.copyfile(bundle / BASE, copy / BASE)
    steps = ["--steps", str(step + 3)]
    subprocess.run([*runner_command(copy, many, running.run), *steps], check=True)
    subprocess.run([*runner_command(bundle, many, tmp_path / "whole"), *steps], check=True)
    assert logged(running.run) == logged(tmp_path / "whole")


def test_a_changed_token_file_ends_the_run(bundle: Path, many: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.safetensors"
    shutil.copyfile(many, tokens)
    running = Running(bundle, tokens, tmp_path / "run")
    flip(tokens)
    code, text = running.end()
    assert (code, f"{tokens} was changed while it was used" in text) == (2, True), text


@pytest.mark.parametrize("how", ["renamed", "deleted", "linked", "other mode"])
def test_a_file_with_its_content_is_whole(
    copy: Path, bundle: Path, many: Path, tmp_path: Path, how: str
) -> None:
    """gsqc-step has the file that it opened, wherever its name leads."""
    running = Running(copy, many, tmp_path / "run")
    if how == "renamed":
        copy.rename(tmp_path / "elsewhere.gsqc")
    elif how == "deleted":
        shutil.rmtree(copy)
    elif how == "linked":
        (tmp_path / "another-name").hardlink_to(copy / BASE)
    else:
        (copy / BASE).chmod(0o400)
    count = len(running.lines)
    running.read_until(lambda: len(running.lines) > count + 5)
    code, text = running.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, text
    steps = ["--steps", str(len(running.lines))]
    subprocess.run([*runner_command(bundle, many, tmp_path / "whole"), *steps], check=True)
    assert logged(running.run) == logged(tmp_path / "whole")


def test_code_is_run_from_a_private_copy(
    copy: Path, bundle: Path, many: Path, tmp_path: Path
) -> None:
    """`cp` writes over the file that is there."""
    running = Running(copy, many, tmp_path / "run")
    (code,) = copy.glob("code/*/kernels.so")
    code.write_bytes(bytes(code.stat().st_size))
    count = len(running.lines)
    running.read_until(lambda: len(running.lines) > count + 5)
    returned, text = running.end(signal.SIGTERM)
    assert returned == 128 + signal.SIGTERM, text
    assert "its hash differs" in failed(runner_command(copy, many, running.run))


def test_a_bus_error_is_a_sentence(bundle: Path, many: Path, tmp_path: Path) -> None:
    """The system sends it to who reads a page of a file that was shortened."""
    code, text = Running(bundle, many, tmp_path).end(signal.SIGBUS)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith("error: ") and "the last saved state is whole" in text

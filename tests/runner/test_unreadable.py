# SPDX-License-Identifier: Apache-2.0
"""Files that gsqc-step may not read, and damaged ones: nobody throws a good run away."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runner.steps import STATE, runner_command
from tests.runner.test_saving import failed


def without_privileges() -> None:
    """Root may read any file. This takes that right from a process that root starts."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.parametrize("name", [STATE, "config.json", "log.jsonl"])
def test_what_cannot_be_read_is_no_reason_for_a_new_run(
    bundle: Path, tokens: Path, tmp_path: Path, name: str
) -> None:
    command = runner_command(bundle, tokens, tmp_path / "run")
    subprocess.run([*command, "--steps", "2"], check=True, capture_output=True)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / name).chmod(0)
    text = failed(command, preexec_fn=without_privileges)
    assert f"cannot read {tmp_path}/run/{name}: Permission denied; make it readable" in text
    assert "new run" not in text
    (tmp_path / "run" / name).chmod(0o600)
    after = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert {**after, "lock": b""} == {**before, "lock": b""}
    subprocess.run(command, check=True, capture_output=True)


def test_a_run_that_cannot_be_looked_into_is_not_begun_anew(
    bundle: Path, tokens: Path, tmp_path: Path
) -> None:
    """The system finds no file in a directory without the right to search it."""
    command = runner_command(bundle, tokens, tmp_path / "run")
    subprocess.run([*command, "--steps", "2"], check=True, capture_output=True)
    (tmp_path / "run").chmod(0o600)
    text = failed(command, preexec_fn=without_privileges)
    (tmp_path / "run").chmod(0o700)
    assert "Permission denied" in text and "new run" not in text


def test_a_bundle_that_cannot_be_read_is_there(bundle: Path, tokens: Path, tmp_path: Path) -> None:
    copy = tmp_path / "closed" / "copy.gsqc"
    shutil.copytree(bundle, copy)
    command = runner_command(bundle, tokens, tmp_path / "run")
    copy.parent.chmod(0)
    text = failed([command[0], str(copy), *command[2:]], preexec_fn=without_privileges)
    copy.parent.chmod(0o700)
    assert "Permission denied; make it readable" in text and "no such bundle" not in text


def test_a_damaged_state_names_its_copies_first(bundle: Path, tokens: Path, tmp_path: Path) -> None:
    command = runner_command(bundle, tokens, tmp_path / "run")
    subprocess.run([*command, "--steps", "2"], check=True, capture_output=True)
    state = tmp_path / "run" / STATE
    state.write_bytes(state.read_bytes()[:100])
    text = failed(command)
    assert re.search("copy of the file.*best.safetensors.*or start a new run", text), text

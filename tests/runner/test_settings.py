# SPDX-License-Identifier: Apache-2.0
"""A run with steps goes on with its own settings only: both runtimes refuse others, by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gsqc.cli.main import main
from gsqc.training.fixed_settings import FIXED_BY_SCHEDULE, FIXED_IF_GIVEN, FIXED_SETTINGS
from tests.runner.steps import RATE, STEPS, program_of

CONFIG = "config.json"


@pytest.fixture(scope="module")
def arguments(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of a run with a held-out file, whose rate depends on the number of steps."""
    held_out = tmp_path_factory.mktemp("held-out") / "held.jsonl"
    held_out.write_text('{"prompt": "xy", "completion": "z"}\n')
    return ["--data", str(data), "--validation", str(held_out), "--steps", str(STEPS), *RATE]


@pytest.fixture(scope="module")
def tokens_of_run(bundle: Path, arguments: list[str], tmp_path_factory: Any) -> Path:
    """The token file of that run."""
    file: Path = tmp_path_factory.mktemp("tokens") / "t.safetensors"
    assert main(["tokens", str(bundle), *arguments, "-o", str(file)]) == 0
    return file


def step(bundle: Path, tokens: Path, run: Path, *options: str) -> tuple[int, str]:
    """The exit code and the errors of gsqc-step."""
    command = [program_of(bundle), str(bundle), "--tokens", str(tokens)]
    arguments = [*command, "--run", str(run), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def begun(bundle: Path, tokens_of_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    run = tmp_path_factory.mktemp("begun") / "run"
    assert step(bundle, tokens_of_run, run, "--steps", "1") == (0, "")
    return run


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value or ''}1"


@pytest.mark.parametrize("name", [*FIXED_SETTINGS, *FIXED_IF_GIVEN, *FIXED_BY_SCHEDULE])
def test_both_runtimes_refuse_another_setting(
    name: str,
    bundle: Path,
    arguments: list[str],
    tokens_of_run: Path,
    begun: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    config = json.loads((run / CONFIG).read_text())
    config[name] = other(config.get(name))
    (run / CONFIG).write_text(json.dumps(config))
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.name != "lock"}
    code, text = step(bundle, tokens_of_run, run)
    assert (code, f"another {name};" in text) == (2, True), text
    code = main(["train", str(bundle), *arguments, "--run", str(run)])
    text = capsys.readouterr().err
    assert (code, f"other settings: {name} was" in text) == (2, True), text
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != "lock"} == before


def test_the_same_settings_go_on(
    bundle: Path, arguments: list[str], tokens_of_run: Path, begun: Path, tmp_path: Path
) -> None:
    """What is refused above is refused for the one setting. Held-out data may be left out."""
    for name in ("c", "python", "without"):
        shutil.copytree(begun, tmp_path / name)
    assert step(bundle, tokens_of_run, tmp_path / "c") == (0, "")
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "python")]) == 0
    without = [*arguments[:2], *arguments[4:]]
    assert main(["train", str(bundle), *without, "--run", str(tmp_path / "without")]) == 0
    states = {p.read_bytes() for p in tmp_path.glob("*/state.safetensors")}
    assert len(states) == 1


def test_a_run_of_an_older_gsqc_is_told_in_a_sentence_and_kept(
    bundle: Path,
    arguments: list[str],
    tokens_of_run: Path,
    begun: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Format 1 named the manifest's sha256 and no format."""
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    config = json.loads((run / CONFIG).read_text())
    del config["format_version"]
    (run / CONFIG).write_text(json.dumps({**config, "bundle": "0" * 64}))
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.name != "lock"}
    code, text = step(bundle, tokens_of_run, run)
    assert (code, "has format 1" in text) == (2, True), text
    assert main(["train", str(bundle), *arguments, "--run", str(run)]) == 2
    assert "has format 1" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != "lock"} == before

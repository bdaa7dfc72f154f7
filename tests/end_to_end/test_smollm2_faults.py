# SPDX-License-Identifier: Apache-2.0
"""The real model loses no step to kills or to a disk that fills."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions

pytestmark = [pytest.mark.slow, pytest.mark.needs_target("llvm")]
DATA = Path(__file__).parents[2] / "examples" / "devils-dictionary-train.jsonl"
STEPS, KILLS = 60, 10
STATE_MIB = 56
"""A state of rank 16: the adapter's matrices and two moments, int32."""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("smollm2") / "smol.gsqc"
    options = CompileOptions(output, base="gguf", adapter=Lora(16, 32), sequence_length=32, seed=1)
    compile_model("smollm2-135m", options)
    return output


def command(bundle: Path, run: Path) -> list[str]:
    settings = f"--steps {STEPS} --save-every 2 --lr 1e-3"
    return [
        *(sys.executable, "-m", "gsqc", "train", str(bundle)),
        *("--data", str(DATA), "--run", str(run), *settings.split()),
    ]


def result(run: Path) -> tuple[bytes, list[str]]:
    """The saved state, and the digest of each step."""
    lines = (run / "log.jsonl").read_text().splitlines()
    return (run / "state.safetensors").read_bytes(), [json.loads(line)["digest"] for line in lines]


def log_bytes(run: Path) -> int:
    """The size of the log, which grows with each step."""
    return (run / "log.jsonl").stat().st_size if (run / "log.jsonl").exists() else 0


@pytest.fixture(scope="module")
def undisturbed(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[str]]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(command(smollm2, run), check=True, capture_output=True)
    return result(run)


def test_ten_kills(smollm2: Path, undisturbed: tuple[bytes, list[str]], tmp_path: Path) -> None:
    run, chance, kills = tmp_path / "run", random.Random(7), 0
    while kills < KILLS:
        process = subprocess.Popen(command(smollm2, run), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        before = log_bytes(run)
        while log_bytes(run) <= before:
            time.sleep(0.05)
            assert process.poll() is None, "the run ended before ten kills: raise STEPS"
        time.sleep(chance.random())
        process.kill()
        kills += 1
        process.communicate()
    subprocess.run(command(smollm2, run), check=True, capture_output=True)
    assert result(run) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds one state and not two."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB * 3 // 2}m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills(
    smollm2: Path, undisturbed: tuple[bytes, list[str]], small_disk: Path
) -> None:
    """The first save fits. Every later one needs room for the old state and the new one."""
    run = small_disk / "run"
    ended = subprocess.run(command(smollm2, run), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "disk full while saving" in ended.stderr and "Traceback" not in ended.stderr
    assert "the run goes on and tries again" in ended.stdout + ended.stderr
    assert not list(run.glob(".*"))
    more = ["mount", "-o", f"remount,size={STATE_MIB * 4}m", str(small_disk)]
    subprocess.run(more, check=True)
    subprocess.run(command(smollm2, run), check=True, capture_output=True)
    assert result(run) == undisturbed

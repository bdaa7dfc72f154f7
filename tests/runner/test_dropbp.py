# SPDX-License-Identifier: Apache-2.0
"""Steps that leave blocks out: the same ones in Python, in compiled code and in gsqc-step, and
after a run is resumed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.check.sequences import CHECK_RATE, random_sequences
from gsqc.check.traced import StepRecord, results_of
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.passes.optional.dropbp import KEPT, DropBP
from gsqc.runtime.session import Session
from gsqc.targets import NATIVE, resolve_target
from tests.runner.steps import STEPS, program_of, run_python, run_step

pytestmark = pytest.mark.needs_target("llvm")
COMPILED = resolve_target(NATIVE)


def compiled(model: Path, output: Path, rate: str) -> Path:
    """The bundle of the fixture `bundle`, with this rate."""
    compile_model(
        str(model),
        CompileOptions(
            output,
            adapter=Lora(rank=4, alpha=8),
            sequence_length=24,
            batch=2,
            runner=rate != "0",
            passes=(DropBP(rate),),
        ),
    )
    return output


@pytest.fixture(scope="module")
def dropping(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(model, tmp_path_factory.mktemp("dropping") / "half.gsqc", "0.5")


@pytest.fixture(scope="module")
def digests(dropping: Path, data: Path) -> list[str]:
    """Ten steps in numpy."""
    return run_python(dropping, data, None, 1, STEPS)


def test_rate_0_gives_the_digests_of_a_bundle_without(
    model: Path, data: Path, tmp_path: Path, expected: tuple[list[str], bytes]
) -> None:
    bundle = compiled(model, tmp_path / "zero.gsqc", "0")
    assert run_python(bundle, data, None, 1, STEPS, COMPILED) == expected[0]


def test_every_runtime_drops_the_same_blocks(
    dropping: Path,
    data: Path,
    tokens: Path,
    tmp_path: Path,
    digests: list[str],
    expected: tuple[list[str], bytes],
) -> None:
    """In the first steps seed 0 drops block 0, both, both, block 0 and both."""
    assert digests != expected[0]
    assert run_python(dropping, data, None, 1, STEPS, COMPILED) == digests
    command = [program_of(dropping)]
    assert run_step(command, dropping, tokens, tmp_path / "run") == digests


def test_a_resumed_run_drops_the_same_blocks(
    dropping: Path, data: Path, tokens: Path, tmp_path: Path, digests: list[str]
) -> None:
    """Three steps in Python, four in gsqc-step, three in Python."""
    run, command = tmp_path / "run", [program_of(dropping)]
    assert run_python(dropping, data, run, 1, 3, COMPILED) == digests[:3]
    assert run_step(command, dropping, tokens, run, "--steps", "7") == digests[3:7]
    assert run_python(dropping, data, run, 8, STEPS, COMPILED) == digests[7:]


def test_the_sanitised_build_finds_nothing(
    sanitised: Path, dropping: Path, tokens: Path, tmp_path: Path, digests: list[str]
) -> None:
    assert run_step([str(sanitised)], dropping, tokens, tmp_path) == digests


def test_targets_are_compared_call_by_call(dropping: Path, tokens: Path, tmp_path: Path) -> None:
    """A call that is left out is in no trace, and `gsqc check` steps over it."""
    assert run_check(dropping, ["numpy", "native"], 3).equal
    trace = tmp_path / "trace"
    run_step(
        [program_of(dropping)], dropping, tokens, tmp_path / "run", "--steps=1", f"--trace={trace}"
    )
    session = Session(dropping, target=COMPILED)
    seen: list[tuple[str, int]] = []
    session.executor.watch = lambda c: seen.append((c.kernel, len(results_of(session.plan, c))))
    session.step(random_sequences(session.bundle, 1, 0), CHECK_RATE)
    assert session.executor.tensors[KEPT].tolist() == [0, 1]
    calls = StepRecord.read(trace).calls
    assert [(name, len(hashes)) for name, hashes in calls] == seen
    session.step(random_sequences(session.bundle, 2, 0), CHECK_RATE)
    assert session.executor.tensors[KEPT].tolist() == [0, 0]
    assert len(seen) < 2 * len(calls)


def test_it_is_recorded(dropping: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Bundle.open(dropping).manifest.passes == ("dropbp:rate=0.5",)
    assert Bundle.open(bundle).manifest.passes is None
    assert "passes" not in json.loads((bundle / "manifest.json").read_text())
    assert main(["inspect", str(dropping), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passes"] == ["dropbp:rate=0.5"]
    assert Bundle.open(dropping).meaning != Bundle.open(bundle).meaning


@pytest.mark.parametrize(
    ("guard", "problem"),
    [
        (["nothing", 0, 1], "there is no tensor|no input and no output"),
        (["layers.0.q_a", 0, 1], "no input and no output"),
        ([KEPT, 2, 1], "leaves the tensor"),
        ([KEPT, 0, 2], "not one int32"),
        ("x", "not \\[name, offset, count\\]"),
    ],
)
def test_a_strangers_guard_is_refused_by_both(
    dropping: Path, tokens: Path, tmp_path: Path, guard: Any, problem: str
) -> None:
    changed = tmp_path / "changed.gsqc"
    shutil.copytree(dropping, changed)
    plan = json.loads((changed / "plan.json").read_text())
    plan["schedules"]["train"]["calls"][-1][2] = guard
    content = json.dumps(plan).encode()
    (changed / "plan.json").write_bytes(content)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["files"]["plan.json"] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (changed / "manifest.json").write_text(json.dumps(manifest))
    for command in (
        [program_of(changed), str(changed), "--tokens", str(tokens), "--run", str(tmp_path / "r")],
        [sys.executable, "-m", "gsqc", "inspect", str(changed)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert re.search(problem, done.stderr), done.stderr

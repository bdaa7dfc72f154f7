# SPDX-License-Identifier: Apache-2.0
"""A bundle with code for two CPUs: the same digests, one run for both, and gsqc-step."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.check.sequences import random_step
from gsqc.cli.main import main
from gsqc.runtime.session import Session

pytestmark = pytest.mark.needs_target("llvm")
CPUS = ("x86-64", "x86-64-v2")


@pytest.fixture(scope="module")
def both(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("both") / "both.gsqc"
    command = ["retarget", str(bundle), "--target", CPUS[1], "--runner", "-o", str(output)]
    assert main(command) == 0
    return output


def test_the_digests_are_those_of_the_compiling_machine(both: Path, bundle: Path) -> None:
    opened = Bundle.open(both)
    assert tuple(opened.manifest.targets) == CPUS
    assert opened.meaning == Bundle.open(bundle).meaning
    assert Session(both).target == "x86-64"
    result = run_check(both, list(CPUS), 3)
    assert result.passed and result.equal, result
    assert [c.difference for c in result.golden] == [None]


def test_a_run_goes_on_with_other_code(both: Path, tmp_path: Path) -> None:
    golden = Bundle.open(both).manifest.golden
    assert golden is not None
    digests = []
    for step, target in enumerate((CPUS[0], CPUS[1], CPUS[0]), 1):
        session = Session(both, tmp_path / "run", target=target)
        assert (session.target, session.step_count) == (target, step - 1)
        digests.append(random_step(session, step, golden.seed))
        session.save()
    assert tuple(digests) == golden.steps


def run_step(bundle: Path, tokens: Path, run: Path, *options: str) -> tuple[int, str]:
    """The exit code of gsqc-step, and what it printed."""
    command = [str(bundle / "code" / CPUS[1] / "gsqc-step"), str(bundle), "--tokens", str(tokens)]
    command += ["--run", str(run), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def with_broken_code(bundle: Path, target: str, output: Path) -> Path:
    """The bundle with a library for `target` that cannot be loaded, and its right hash."""
    shutil.copytree(bundle, output)
    name, content = f"code/{target}/kernels.so", b"broken"
    (output / name).write_bytes(content)
    manifest = json.loads((output / "manifest.json").read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"sha256": digest, "bytes": len(content)}
    (output / "manifest.json").write_text(json.dumps(manifest))
    return output


def test_gsqc_step_takes_the_code_for_its_machine(both: Path, tmp_path: Path) -> None:
    data, tokens = tmp_path / "notes.txt", tmp_path / "tokens.safetensors"
    data.write_text("ab" * 200)
    command = ["tokens", str(both), "--data", str(data), "--steps", "2", "--lr", "1e-2"]
    assert main([*command, "-o", str(tokens)]) == 0
    code, printed = run_step(both, tokens, tmp_path / "best")
    assert (code, printed.count("digest")) == (0, 2), printed
    for broken, other in (CPUS, CPUS[::-1]):
        bundle = with_broken_code(both, broken, tmp_path / f"{broken}.gsqc")
        run = tmp_path / f"run-{broken}"
        assert run_step(bundle, tokens, run, "--target", other) == (0, printed)
        code, text = run_step(bundle, tokens, tmp_path / f"wrong-{broken}", "--target", broken)
        assert code == 2 and "cannot load" in text, text
        # The better code is taken where nothing is said: it is broken in one of the two.
        assert (run_step(bundle, tokens, tmp_path / f"none-{broken}")[0] == 2) == (
            broken == CPUS[0]
        )
    code, text = run_step(both, tokens, tmp_path / "arm", "--target", "aarch64")
    assert code == 2 and text.count("\n") == 1
    assert "cannot run the bundle's code (it has none for that target)" in text

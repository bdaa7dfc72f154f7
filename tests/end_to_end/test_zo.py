# SPDX-License-Identifier: Apache-2.0
"""A run of zo: the same bits everywhere, and a log from which its state is made again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.numerics.optim.zo import Zo
from gsqc.runtime.session import Session
from gsqc.runtime.store import RunStore
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.training.replay import replay
from tests.targets_here import COMPILED

STEPS = 100
SETTINGS = ["--lr", "3e-3", "--schedule", "linear", "--weight-decay", "0.01"]


@pytest.fixture(scope="module")
def zo_bundle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("zo") / "zo.gsqc"
    options = CompileOptions(
        output,
        COMPILED,
        adapter=Lora(rank=4, alpha=8),
        sequence_length=24,
        batch=2,
        optimizer=Zo(queries=2),
        runner=True,
    )
    compile_model(str(model_directory), options)
    return output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "notes.jsonl"
    records = [{"prompt": f"ab{k}", "completion": f"cd{k * k}"} for k in range(7)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def train(bundle: Path, data: Path, run: Path, steps: int, *more: str) -> int:
    size = ["--steps", str(steps), "--run", str(run)]
    return main(["train", str(bundle), "--data", str(data), *size, *SETTINGS, *more])


@pytest.fixture(scope="module")
def run(zo_bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    assert (
        train(zo_bundle, data, place, STEPS, "--eval-every", "50", "--validation", str(data)) == 0
    )
    return place


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls(run: Path) -> None:
    losses = [entry["validation_loss"] for entry in log(run) if "validation_loss" in entry]
    assert losses == sorted(losses, reverse=True)
    # Measured: from 6.14 to 5.61, of a model with random weights.
    assert losses[-1] < losses[0] - 0.3


def test_numpy_and_compiled_code_agree(zo_bundle: Path) -> None:
    result = run_check(zo_bundle, ["numpy", "native"], 2)
    assert result.equal
    assert len(set(result.targets["numpy"])) == 2


@pytest.mark.skipif("aarch64" not in CPU_TARGETS, reason="no target of this name")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs an emulator")
@pytest.mark.slow
def test_aarch64_agrees(zo_bundle: Path) -> None:
    """It runs in gsqc-step."""
    assert run_check(zo_bundle, ["native", "aarch64"], 2).equal


def test_weights_come_back_after_a_step_without_a_rate(zo_bundle: Path) -> None:
    from gsqc.check.sequences import random_sequences

    session = Session(zo_bundle)
    session.step_count = 2**40  # as a stranger's state may say
    before = {name: tensor.copy() for name, tensor in session.state().items()}
    result = session.step(random_sequences(session.bundle, 1, 0), 0)
    assert len(result.differences) == 2
    assert any(result.differences)
    assert all((session.state()[name] == tensor).all() for name, tensor in before.items())


def test_a_run_goes_on_with_the_same_bits(
    zo_bundle: Path, data: Path, run: Path, tmp_path: Path
) -> None:
    constant = ["--schedule", "constant", "--lr", "3e-4"]
    assert train(zo_bundle, data, tmp_path / "whole", 6, *constant) == 0
    assert train(zo_bundle, data, tmp_path / "parts", 3, *constant) == 0
    assert train(zo_bundle, data, tmp_path / "parts", 6, *constant) == 0
    digests = [[e["digest"] for e in log(tmp_path / name)] for name in ("whole", "parts")]
    assert digests[0] == digests[1]
    opened = Bundle.open(zo_bundle)
    file = tmp_path / "parts" / "log.jsonl"
    assert replay(opened, RunStore(file.parent, opened), file).digest == digests[0][-1]


def test_the_runner_without_python_agrees(zo_bundle: Path, data: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.safetensors"
    chosen = ["--data", str(data), "--steps", "5", *SETTINGS, "-o", str(tokens)]
    assert main(["tokens", str(zo_bundle), *chosen]) == 0
    assert train(zo_bundle, data, tmp_path / "python", 5) == 0
    program = next(zo_bundle.rglob("gsqc-step"))
    command = [str(program), str(zo_bundle), "--tokens", str(tokens), "--run", str(tmp_path / "c")]
    subprocess.run(command, check=True, capture_output=True)
    names = ("step", "digest", "weight", "differences")
    lines = [[[e[n] for n in names] for e in log(tmp_path / r)] for r in ("python", "c")]
    assert lines[0] == lines[1]
    losses = [[e["loss"] for e in log(tmp_path / r)] for r in ("python", "c")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)  # the C runner divides in floats
    assert main(["replay", str(tmp_path / "c")]) == 0


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["replay", *arguments])
    out, err = capsys.readouterr()
    return code, out + err


def test_a_log_is_enough(
    zo_bundle: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = replayed(capsys, str(run), "--run", str(tmp_path / "again"), "--json")
    record = json.loads(text.splitlines()[-1])
    assert (code, record["steps"], record["saved_state"]) == (0, STEPS, True)
    assert record["digest"] == log(run)[-1]["digest"]
    assert record["log_bytes"] == (run / "log.jsonl").stat().st_size
    # Two differences and a weight are about 40 digits.
    assert record["numbers_bytes"] < 50 * STEPS
    states = [(place / "state.safetensors").read_bytes() for place in (run, tmp_path / "again")]
    assert states[0] == states[1]
    assert Session(zo_bundle, tmp_path / "again").step_count == STEPS
    assert replayed(capsys, str(run / "log.jsonl"))[0] == 0
    code, text = replayed(capsys, str(run), "--run", str(tmp_path / "again"))
    assert code == 2
    assert "holds a run already" in text


def change(number: int, old: str, new: str) -> Any:
    def edit(lines: list[str]) -> list[str]:
        lines[number] = re.sub(old, new, lines[number], count=1)
        return lines

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (change(7, r"\[-?\d+", "[1"), "step 7 does not give the digest in its line"),
        (change(7, r'"weight": \d+', '"weight": 99'), "step 7 does not give the digest"),
        (change(7, r'"weight": \d+', '"weight": 0'), "step 7 has no weight of its tokens"),
        (change(7, r'"weight": \d+', '"weight": 9.5'), "step 7 has no weight of its tokens"),
        (change(7, r"\[(-?\d+), -?\d+\]", r"[\1]"), "2 differences of losses"),
        (change(7, r"\[-?\d+", "[" + "9" * 30), "2 differences of losses"),
        (change(7, r"\[-?\d+", '["1"'), "2 differences of losses"),
        (change(7, '"digest": "[0-9a-f]', '"digest": "g'), "step 7 does not give the digest"),
        (change(7, ".{9}$", ""), "log.jsonl:8 is no line of a step"),
        (lambda lines: lines[:60], "ends at step 59, and the saved state is of step 100"),
        (lambda lines: lines[:7] + lines[8:], "has step 8 where step 7 belongs"),
        (lambda lines: lines[:1], "has no step"),
    ],
)
def test_a_changed_or_cut_log_is_one_error(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Any, problem: str
) -> None:
    place = tmp_path / "run"
    shutil.copytree(run, place)
    lines = (place / "log.jsonl").read_text().splitlines()
    (place / "log.jsonl").write_text("\n".join(edit(lines)) + "\n")
    code, text = replayed(capsys, str(place))
    assert code == 2
    assert problem in " ".join(text.split())
    assert text.count("error") == 1


def test_changed_settings_are_found(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value, problem in (
        ("lr", "2e-4", "step 1 does not give the digest"),
        ("lr", "much", "has no sound settings"),
        ("bundle", "0" * 64, "belongs to another bundle"),
        ("bundle_path", 3, "names no bundle"),
    ):
        place = tmp_path / f"{name}-{value}"[:12]
        shutil.copytree(run, place, dirs_exist_ok=True)
        config = json.loads((run / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, name: value}))
        code, text = replayed(capsys, str(place))
        assert code == 2
        assert problem in " ".join(text.split())


def test_other_bundles_and_options_are_refused(
    bundle: Path,
    zo_bundle: Path,
    run: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = replayed(capsys, str(run), "--bundle", str(bundle))
    assert code == 2
    assert "belongs to another bundle" in " ".join(text.split())
    assert replayed(capsys, str(tmp_path / "none"))[0] == 2
    assert train(bundle, data, tmp_path / "adamw", 1, "--schedule", "constant") == 0
    code, text = replayed(capsys, str(tmp_path / "adamw"))
    assert code == 2
    assert "the bundle trains with adamw" in " ".join(text.split())
    assert train(zo_bundle, data, tmp_path / "clip", 1, "--clip", "1") == 2
    assert "zo computes no gradient" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "clip" / "log.jsonl").exists()

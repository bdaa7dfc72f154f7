# SPDX-License-Identifier: Apache-2.0
"""gsqc-step and the Python runtime continue each other's runs, bit for bit."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import MANIFEST, TOKENIZER
from gsqc.bundle.tensor_file import MappedTensors
from gsqc.check.runner_steps import RunnerStepper
from gsqc.check.sequences import CHECK_RATE, random_sequences, random_step
from gsqc.check.traced import StepRecord, results_of
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.files.reading import open_file
from gsqc.runtime.session import Session
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.training.learning_rate import LearningRate
from tests.runner.steps import (
    RATE,
    STATE,
    STEPS,
    program_of,
    run_python,
    run_step,
    runner_command,
    train_arguments,
)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_ten_steps(
    bundle: Path, tokens: Path, tmp_path: Path, expected: tuple[list[str], bytes], threads: str
) -> None:
    command = [program_of(bundle)]
    assert run_step(command, bundle, tokens, tmp_path / "run", "--threads", threads) == expected[0]
    assert (tmp_path / "run" / STATE).read_bytes() == expected[1]


def test_a_bundle_without_a_tokenizer(bundle: Path, tmp_path: Path) -> None:
    """`gsqc check` steps it on random tokens, in gsqc-step too."""
    bare = tmp_path / "bare.gsqc"
    shutil.copytree(bundle, bare)
    (bare / TOKENIZER).unlink()
    manifest = json.loads((bare / MANIFEST).read_text())
    del manifest["files"][TOKENIZER]
    (bare / MANIFEST).write_text(json.dumps(manifest))
    opened = Bundle.open(bare)
    batches = [random_sequences(opened, step, 0) for step in (1, 2)]
    stepper = RunnerStepper(bare, [program_of(bare)], batches, CHECK_RATE, tmp_path / "run")
    session = Session(opened, target="numpy")
    for step in (1, 2):
        assert stepper.digest(step) == random_step(session, step, 0)


def test_python_then_the_runner(
    bundle: Path, tokens: Path, data: Path, tmp_path: Path, expected: tuple[list[str], bytes]
) -> None:
    first = run_python(bundle, data, tmp_path, 1, 5, "native")
    second = run_step([program_of(bundle)], bundle, tokens, tmp_path)
    assert first + second == expected[0]
    assert (tmp_path / STATE).read_bytes() == expected[1]


def test_the_runner_then_train(
    bundle: Path, tokens: Path, data: Path, tmp_path: Path, expected: tuple[list[str], bytes]
) -> None:
    """`gsqc train` takes the run, its config and its log as its own."""
    run_step([program_of(bundle)], bundle, tokens, tmp_path, "--steps", "5")
    assert main(train_arguments(bundle, data, tmp_path)) == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["digest"] for entry in log] == expected[0]
    assert all(set(entry) >= set(log[0]) and entry["loss"] > 0 for entry in log)
    assert (tmp_path / STATE).read_bytes() == expected[1]


def test_the_runner_takes_a_run_of_train(
    bundle: Path, tokens: Path, data: Path, tmp_path: Path
) -> None:
    """Whole already: nothing to do. With another rate it would be another run."""
    assert main(train_arguments(bundle, data, tmp_path)) == 0
    command = runner_command(bundle, tokens, tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing to do" in done.stdout
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"lr": "0.01"', '"lr": "0.001"'))
    other = tokens.with_name("longer.safetensors")
    settings = ["--data", str(data), "--steps", "12", *RATE, "-o", str(other)]
    assert main(["tokens", str(bundle), *settings]) == 0
    command = runner_command(bundle, other, tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "with another lr" in done.stderr) == (2, True), done.stderr


EVERYTHING = [
    "--lr=1e-2",
    "--schedule=cosine",
    "--warmup=1",
    "--min-lr=1e-3",
    "--weight-decay=0.1",
]


@pytest.mark.parametrize(
    "options",
    [
        ["--clip", "0.01", "--batch", "1", "--accumulate", "3"],
        ["--clip", "0.01", "--batch", "1"],
        ["--batch", "1"],
    ],
    ids=["clipped sums", "clipped", "one sequence"],
)
def test_clipping_accumulation_and_cosine(
    bundle: Path, data: Path, tmp_path: Path, options: list[str]
) -> None:
    """The token file has all that changes the bits, and each runtime goes on from the other."""
    file = tmp_path / "t.safetensors"
    arguments = ["--data", str(data), "--steps", "4", *EVERYTHING, *options]
    assert main(["tokens", str(bundle), *arguments, "-o", str(file)]) == 0
    command = [program_of(bundle)]
    digests = run_step(command, bundle, file, tmp_path / "c")
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "python")]) == 0
    lines = (tmp_path / "python" / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    assert [entry["digest"] for entry in log] == digests
    if "--clip" in options:
        assert all(entry["gradient_norm"] > 0.01 for entry in log), "it clips"
    run_step(command, bundle, file, tmp_path / "both", "--steps", "2")
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / STATE).read_bytes() == (tmp_path / "c" / STATE).read_bytes()


def test_packed_records(bundle: Path, data: Path, tmp_path: Path) -> None:
    """gsqc-step gets their positions, and takes the steps of `gsqc train`."""
    file = tmp_path / "t.safetensors"
    arguments = ["--data", str(data), "--steps", "3", *EVERYTHING, "--packing"]
    assert main(["tokens", str(bundle), *arguments, "-o", str(file)]) == 0
    with open_file(file) as opened:
        positions = MappedTensors(opened)["positions"].reshape(-1, 24)
    assert (positions[:, 1:] == 0).any(), "several records share a sequence"
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "run")]) == 0
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    digests = run_step([program_of(bundle)], bundle, file, tmp_path / "c")
    assert [json.loads(line)["digest"] for line in lines] == digests


def test_a_trace_holds_the_calls_of_numpy(
    sanitised: Path, bundle: Path, tokens: Path, data: Path, tmp_path: Path
) -> None:
    """It has the prepared tensors, every call with its results, and the values of one call."""
    file = tmp_path / "trace"
    traced = ["--steps", "1", "--trace", str(file), "--trace-call", "5"]
    run_step([str(sanitised)], bundle, tokens, tmp_path / "run", *traced)
    session = Session(bundle, target="numpy")
    seen: list[tuple[str, list[bytes]]] = []
    session.executor.watch = lambda c: seen.append(
        (c.kernel, [r.tobytes() for r in results_of(session.plan, c)])
    )
    batches = load_data(data, Tokenizer(session.bundle), session.sequence_length).batches(
        session.batch, 5, 0
    )
    rates = LearningRate(parse_fraction("1e-2", "--lr", 1), STEPS, 3, "linear")
    session.step(next(batches), rates.at(1), parse_fraction("0.01", "--weight-decay", 1))
    trace = StepRecord.read(file)
    assert set(trace.prepared) == set(session.plan.buffers["prepared"])
    assert trace.calls == [
        (name, [hashlib.sha256(r).hexdigest() for r in results]) for name, results in seen
    ]
    assert file.with_name("trace.values").read_bytes() == b"".join(seen[4][1])


def test_the_sanitised_build_finds_nothing(
    sanitised: Path, bundle: Path, tokens: Path, tmp_path: Path, expected: tuple[list[str], bytes]
) -> None:
    assert run_step([str(sanitised)], bundle, tokens, tmp_path) == expected[0]


@pytest.mark.skipif("aarch64" not in CPU_TARGETS, reason="no target of this name")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="needs an emulator")
def test_a_run_moves_to_aarch64_and_back(
    model: Path,
    bundle: Path,
    tokens: Path,
    data: Path,
    tmp_path: Path,
    expected: tuple[list[str], bytes],
) -> None:
    """A run moves between bundles of one compilation, and one token file serves both.

    Five steps on x86-64 and five on an emulated aarch64 are the ten of x86-64, and the other way
    round.
    """
    output, run = tmp_path / "arm.gsqc", tmp_path / "run"
    adapter = Lora(rank=4, alpha=8)
    options = CompileOptions(
        output, target="aarch64", adapter=adapter, sequence_length=24, batch=2, runner=True
    )
    compile_model(str(model), options)
    emulator = ["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"]
    command = [*emulator, program_of(output)]
    first = run_python(bundle, data, run, 1, 5, "native")
    assert first + run_step(command, output, tokens, run) == expected[0]
    assert (run / STATE).read_bytes() == expected[1]
    other = tmp_path / "other"
    assert run_step(command, output, tokens, other, "--steps", "5") == first
    assert run_python(bundle, data, other, 6, STEPS, "native") == expected[0][5:]
    assert (other / STATE).read_bytes() == expected[1]

# SPDX-License-Identifier: Apache-2.0
"""gsqc-step and the Python runtime continue each other's runs, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.traced import StepRecord, results_of
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.runtime.session import Session
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.runner import build_runner
from gsqc.training.learning_rate import LearningRate
from gsqc.training.lock import RunLock
from tests.runner.conftest import RATE, STEPS, program_of

STATE = "state.safetensors"


def run_step(command: list[str], bundle: Path, tokens: Path, run: Path, *options: str) -> list[str]:
    """The digests that it prints."""
    arguments = [*command, str(bundle), "--tokens", str(tokens), "--run", str(run), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines()]


def run_python(
    bundle: Path, data: Path, run: Path | None, first: int, last: int, target: str = "numpy"
) -> list[str]:
    """Digests of the same steps in a session; `run` is continued and saved."""
    opened = Bundle.open(bundle)
    session = Session(opened, run, target=target)
    assert session.step_count == first - 1
    batches = load_data(data, Tokenizer(opened), session.sequence_length).batches(
        session.batch, 5, first - 1
    )
    rates = LearningRate(parse_fraction("1e-2", "--lr", 1), STEPS, 3, "linear")
    decay = parse_fraction("0.01", "--weight-decay", 1)
    digests = [
        session.step(next(batches), rates.at(n), decay).digest for n in range(first, last + 1)
    ]
    if run is not None:
        session.save()
    return digests


@pytest.fixture(scope="module")
def expected(
    bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], bytes]:
    """Ten steps in numpy: the digests, and the saved state."""
    run = tmp_path_factory.mktemp("numpy") / "run"
    digests = run_python(bundle, data, run, 1, STEPS)
    assert len(set(digests)) == STEPS
    return digests, (run / STATE).read_bytes()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_ten_steps(
    bundle: Path, tokens: Path, tmp_path: Path, expected: tuple[list[str], bytes], threads: str
) -> None:
    command = [program_of(bundle)]
    assert run_step(command, bundle, tokens, tmp_path / "run", "--threads", threads) == expected[0]
    assert (tmp_path / "run" / STATE).read_bytes() == expected[1]


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
    arguments = [
        "train",
        str(bundle),
        "--data",
        str(data),
        "--steps",
        str(STEPS),
        *RATE,
        "--run",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["digest"] for entry in log] == expected[0]
    assert all(set(entry) >= set(log[0]) and entry["loss"] > 0 for entry in log)
    assert (tmp_path / STATE).read_bytes() == expected[1]


def test_the_runner_takes_a_run_of_train(
    bundle: Path, tokens: Path, data: Path, tmp_path: Path
) -> None:
    """Whole already: nothing to do. With another rate it would be another run."""
    arguments = ["--data", str(data), "--steps", str(STEPS), "--run", str(tmp_path)]
    assert main(["train", str(bundle), *arguments, *RATE]) == 0
    command = [
        program_of(bundle),
        str(bundle),
        "--tokens",
        str(tokens),
        "--run",
        str(tmp_path),
    ]
    assert (
        "nothing to do"
        in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"lr": "0.01"', '"lr": "0.001"')
    )
    other = tokens.with_name("longer.safetensors")
    settings = ["--data", str(data), "--steps", "12", *RATE, "-o", str(other)]
    assert main(["tokens", str(bundle), *settings]) == 0
    command[3] = str(other)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "with another lr" in done.stderr) == (2, True), done.stderr


EVERYTHING = [
    "--lr",
    "1e-2",
    "--schedule",
    "cosine",
    "--warmup",
    "1",
    "--min-lr",
    "1e-3",
    "--weight-decay",
    "0.1",
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
    """The runner takes all that changes the bits from the token file; the two runtimes go on from
    each other.
    """
    file, arguments = (
        tmp_path / "t.safetensors",
        ["--data", str(data), "--steps", "4", *EVERYTHING, *options],
    )
    assert main(["tokens", str(bundle), *arguments, "-o", str(file)]) == 0
    command = [program_of(bundle)]
    digests = run_step(command, bundle, file, tmp_path / "c")
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "python")]) == 0
    log = [
        json.loads(line) for line in (tmp_path / "python" / "log.jsonl").read_text().splitlines()
    ]
    assert [entry["digest"] for entry in log] == digests
    if "--clip" in options:
        assert all(entry["gradient_norm"] > 0.01 for entry in log), "it clips"
    run_step(command, bundle, file, tmp_path / "both", "--steps", "2")
    assert main(["train", str(bundle), *arguments, "--run", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / STATE).read_bytes() == (tmp_path / "c" / STATE).read_bytes()


def test_one_process_trains_a_run(
    bundle: Path, data: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each runtime refuses a run that the other holds, and takes it when the holder is gone."""
    command = [
        program_of(bundle),
        str(bundle),
        "--tokens",
        str(tokens),
        "--run",
        str(tmp_path),
    ]
    lock = RunLock(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, f"is being trained by process {os.getpid()}" in done.stderr) == (
        2,
        True,
    ), done.stderr
    lock.release()
    holder = subprocess.Popen(["flock", "--no-fork", str(tmp_path / "lock"), "sleep", "60"])
    arguments = [
        "train",
        str(bundle),
        "--data",
        str(data),
        "--steps",
        str(STEPS),
        *RATE,
        "--run",
        str(tmp_path),
    ]
    try:
        while (
            subprocess.run(["flock", "-n", str(tmp_path / "lock"), "true"], check=False).returncode
            == 0
        ):
            assert holder.poll() is None
        assert main(arguments) == 2
        assert "is being trained by" in capsys.readouterr().err
    finally:
        holder.kill()
        subprocess.run(["flock", str(tmp_path / "lock"), "true"], check=True)
    assert main(arguments) == 0


def test_a_signal_saves_whole_steps(bundle: Path, data: Path, tmp_path: Path) -> None:
    """It stops between steps, and what it printed is what it saved."""
    tokens, run = tmp_path / "many.safetensors", tmp_path / "run"
    assert (
        main(
            [
                "tokens",
                str(bundle),
                "--data",
                str(data),
                "--steps",
                "5000",
                *RATE,
                "-o",
                str(tokens),
            ]
        )
        == 0
    )
    command = [
        program_of(bundle),
        str(bundle),
        "--tokens",
        str(tokens),
        "--run",
        str(run),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.readlines()
    assert process.returncode == 128 + signal.SIGTERM
    session = Session(bundle, run)
    assert session.step_count == len(lines) < 5000
    assert session.digest() == lines[-1].split()[-1]


def test_a_trace_holds_the_calls_of_numpy(
    sanitised: Path, bundle: Path, tokens: Path, data: Path, tmp_path: Path
) -> None:
    """Prepared tensors, then every call of the step with its results; the values of one."""
    file = tmp_path / "trace"
    run_step(
        [str(sanitised)],
        bundle,
        tokens,
        tmp_path / "run",
        "--steps",
        "1",
        "--trace",
        str(file),
        "--trace-call",
        "5",
    )
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


def test_the_runner_is_small_and_needs_libc_only(bundle: Path) -> None:
    program = Path(program_of(bundle))
    assert str(program.relative_to(bundle)) in Bundle.open(bundle).files
    assert os.access(program, os.X_OK)
    assert program.stat().st_size < 1_000_000
    needed = subprocess.run(
        ["readelf", "-d", str(program)], capture_output=True, text=True, check=True
    ).stdout
    libraries = {
        line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line
    }
    assert libraries <= {"libc.so.6", "libpthread.so.0", "libdl.so.2"}


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs gcc for aarch64")
def test_the_runner_for_aarch64_is_small() -> None:
    program = build_runner(replace(CPU_TARGETS["x86-64"], compiler=("aarch64-linux-gnu-gcc",)))
    assert program[18:20] == (183).to_bytes(2, "little"), "EM_AARCH64"
    assert len(program) < 1_000_000


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
    """A run moves between bundles of one compilation: five steps from the bundle for x86-64 and five
    on an emulated aarch64 are the ten of x86-64, and the other way round. One token file serves both.
    """
    output, run = tmp_path / "arm.gsqc", tmp_path / "run"
    adapter = Lora(rank=4, alpha=8)
    options = CompileOptions(
        output, target="aarch64", adapter=adapter, sequence_length=24, batch=2, runner=True
    )
    compile_model(str(model), options)
    command = [
        "qemu-aarch64",
        "-cpu",
        "max",
        "-L",
        "/usr/aarch64-linux-gnu",
        program_of(output),
    ]
    first = run_python(bundle, data, run, 1, 5, "native")
    assert first + run_step(command, output, tokens, run) == expected[0]
    assert (run / STATE).read_bytes() == expected[1]
    other = tmp_path / "other"
    assert run_step(command, output, tokens, other, "--steps", "5") == first
    assert run_python(bundle, data, other, 6, STEPS, "native") == expected[0][5:]
    assert (other / STATE).read_bytes() == expected[1]

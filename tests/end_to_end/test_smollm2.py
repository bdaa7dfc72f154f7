# SPDX-License-Identifier: Apache-2.0
"""The real model: SmolLM2-135M-Instruct from its GGUF file, in its own 4-bit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("smollm2") / "smol.gsqc"
    compile_model("smollm2-135m", CompileOptions(output, base="gguf", adapter=Lora(16, 32), seed=1))
    return output


def test_numpy_and_compiled_code_agree(smollm2: Path) -> None:
    assert Bundle.open(smollm2).manifest.base_kinds["model.layers.0.mlp.up_proj.weight"] == "q4_1"
    assert run_check(smollm2, ["numpy", "native"], 3).equal


def test_memory_settings_do_not_change_the_bits(smollm2: Path, tmp_path: Path) -> None:
    """With --weights small, some blocks are recomputed and some are kept."""
    options = CompileOptions(tmp_path / "s.gsqc", base="gguf", adapter=Lora(16, 32), seed=1)
    compile_model("smollm2-135m", replace(options, weights="small", recompute="auto"))
    sessions = Session(smollm2), Session(options.output)
    forwards = [
        sum(name == "block_forward" for name, _ in s.plan.schedules["train"].calls)
        for s in sessions
    ]
    assert 30 < forwards[1] < forwards[0] == 59
    digests = [
        [s.step(random_sequences(s.bundle, n, 0), Fraction(1, 1000)).digest for n in (1, 2)]
        for s in sessions
    ]
    assert digests[0] == digests[1]


@pytest.mark.skipif(
    not shutil.which("qemu-aarch64"), reason="needs apt-get install qemu-user gcc-aarch64-linux-gnu"
)
def test_three_steps_on_another_architecture(tmp_path: Path) -> None:
    """Sequences are short, because an emulator is slow. Processes start as a user starts them."""
    gsqc = [sys.executable, "-m", "gsqc"]
    bundle = str(tmp_path / "smol.gsqc")
    subprocess.run(
        [*gsqc, "compile", "smollm2-135m", "--seq", "32", "--seed", "1", "-o", bundle], check=True
    )
    command = [*gsqc, "check", bundle, "--on", "numpy,native,aarch64", "--steps", "3", "--json"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(json.dumps(result["targets"], indent=1))
    assert result["equal"] is True
    assert [len(set(digests)) for digests in result["targets"].values()] == [3, 3, 3]


def test_it_knows_what_the_model_knows(smollm2: Path) -> None:
    tokenizer = Tokenizer(Bundle.open(smollm2))
    tokens = Session(smollm2).generate(tokenizer.encode("The capital of France is"), 2)
    assert tokenizer.decode(list(tokens)).startswith(" Paris")


def test_training_lowers_held_out_loss(smollm2: Path) -> None:
    session = Session(smollm2)
    tokenizer = Tokenizer(session.bundle)
    train, heldout = (
        load_data(EXAMPLES / f"devils-dictionary-{p}.jsonl", tokenizer, 128)
        for p in ("train", "heldout")
    )
    before = session.evaluate(heldout.sequences[:40]).loss
    batches = train.batches(1, 1)
    for _ in range(30):
        session.step(next(batches), Fraction(1, 2000))
    assert session.evaluate(heldout.sequences[:40]).loss < before - 0.25

# SPDX-License-Identifier: Apache-2.0
"""Compiled models give the same bits in numpy and in compiled code, on any number of threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.check.check import run_check
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.numerics.optim.sgd import Sgd
from gsqc.runtime.session import Session
from tests.targets_here import COMPILED

RATE = Fraction(1, 100)


def steps(session: Session, first: int, last: int) -> list[str]:
    """The digests of steps `first` to `last` on fixed batches."""
    return [
        session.step(random_sequences(session.bundle, n, 0), RATE).digest
        for n in range(first, last + 1)
    ]


def test_numpy_and_compiled_code_agree(bundle: Path) -> None:
    result = run_check(bundle, ["numpy", "native"], 3)
    assert result.equal
    assert len(set(result.targets["numpy"])) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": Bits(4, 6, 6), "optimizer": Sgd()},
        {"bits": Bits(4, 5, 5), "base": "gse4"},
        {
            "bits": Bits(8, 7, 8),
            "base": "gse8",
            "adapter": Lora(rank=33, alpha=5, linears=("v", "down")),
        },
    ],
    ids=["4-6-6 sgd", "4-5-5 gse4", "8-7-8 gse8 some linears"],
)
def test_other_settings_agree(
    model_directory: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    options = CompileOptions(
        tmp_path / "b.gsqc", **{"adapter": Lora(4, 8), "sequence_length": 9, **changes}
    )
    compile_model(str(model_directory), options)
    assert run_check(options.output, ["numpy", "native"], 2).equal


def test_a_bundle_for_numpy_has_no_code(model_directory: Path, tmp_path: Path) -> None:
    """It steps as it is, and gets code for another target from its plan."""
    options = CompileOptions(
        tmp_path / "b.gsqc", "numpy", adapter=Lora(4, 8, ("q",)), sequence_length=9
    )
    compile_model(str(model_directory), options)
    opened = Bundle.open(options.output)
    assert {name: part.code_bytes for name, part in opened.manifest.targets.items()} == {"numpy": 0}
    assert not {"code", "bin", "npu"} & {name.split("/")[0] for name in opened.files}
    result = run_check(options.output, ["native", COMPILED], 1)
    assert result.equal, result


def test_threads_do_not_change_the_bits(bundle: Path) -> None:
    assert steps(Session(bundle, threads=1), 1, 3) == steps(Session(bundle, threads=2), 1, 3)


def test_recomputing_takes_less_memory_and_gives_the_same_bits(
    bundle: Path, model_directory: Path, tmp_path: Path
) -> None:
    adapter = Lora(rank=4, alpha=8)
    sizes: dict[str, Any] = {"sequence_length": 24, "batch": 2, "seed": 1}
    kept = CompileOptions(tmp_path / "kept.gsqc", adapter=adapter, recompute="none", **sizes)
    compile_model(str(model_directory), kept)
    sessions = Session(bundle), Session(kept.output)
    assert steps(sessions[0], 1, 2) == steps(sessions[1], 1, 2)
    assert sessions[0].plan.arena_bytes < sessions[1].plan.arena_bytes


def test_small_weights_take_less_memory_and_give_the_same_bits(
    bundle: Path, model_directory: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {
        "sequence_length": 24,
        "batch": 2,
        "seed": 1,
        "adapter": Lora(4, 8),
    }
    compile_model(
        str(model_directory), CompileOptions(tmp_path / "small.gsqc", weights="small", **sizes)
    )
    fast, small = Session(bundle), Session(tmp_path / "small.gsqc")
    assert steps(fast, 1, 2) == steps(small, 1, 2)
    assert small.plan.peak_bytes < fast.plan.peak_bytes
    assert not small.plan.buffer_bytes("prepared")
    assert list(fast.generate([1, 2, 3], 6)) == list(small.generate([1, 2, 3], 6))
    assert steps(fast, 3, 3) == steps(small, 3, 3)


def test_widths_need_not_be_multiples_of_a_group(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=1,
        num_attention_heads=2,
        head_dim=24,
        vocab_size=70,
    )
    torch.manual_seed(0)
    options = CompileOptions(tmp_path / "b.gsqc", adapter=Lora(4, 8), sequence_length=9)
    compile_model(LlamaForCausalLM(config), options)
    assert run_check(options.output, ["numpy", "native"], 2).equal


def test_training_lowers_the_loss(bundle: Path) -> None:
    session = Session(bundle)
    batch = random_sequences(session.bundle, 1, 0)
    before = session.evaluate(batch).loss
    losses = [session.step(batch, RATE).loss for _ in range(20)]
    assert losses[0] == before
    assert session.evaluate(batch).loss < before - 0.5


def test_a_saved_run_goes_on_bit_for_bit_on_another_target(bundle: Path, tmp_path: Path) -> None:
    whole = steps(Session(bundle), 1, 4)
    session = Session(bundle, tmp_path / "run")
    first = steps(session, 1, 2)
    session.save()
    resumed = Session(bundle, tmp_path / "run", target="numpy")
    assert resumed.step_count == 2
    assert first + steps(resumed, 3, 4) == whole


def test_a_token_is_the_likeliest_of_the_captured_model(
    model_directory: Path, tmp_path: Path
) -> None:
    """One greedy token must be the float model's, or have a float logit near the largest one.

    The two may differ if logits are close. The bound, 0.1 of the logits' standard deviation, is ten
    times the error of 8-bit operands in products of 64 columns.
    """
    options = CompileOptions(
        tmp_path / "b.gsqc", bits=Bits(8, 8, 8), base="gse8", sequence_length=24
    )
    compile_model(str(model_directory), options)
    model = LlamaForCausalLM.from_pretrained(model_directory)
    session = Session(options.output)
    for text in (b"The rain in ", b"a", b"integers only, again."):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(text)]), use_cache=False).logits[0, -1]
        (token,) = session.generate(list(text), 1)
        assert logits[token] > logits.max() - 0.1 * logits.std()


def test_generation_agrees_and_repeats(bundle: Path) -> None:
    prompt = list(b"The rain in ")
    numpy, compiled = Session(bundle, target="numpy"), Session(bundle)
    greedy = list(compiled.generate(prompt, 6))
    assert greedy == list(numpy.generate(prompt, 6))
    sampled = [
        list(s.generate(prompt, 6, Fraction(1), seed=7)) for s in (compiled, compiled, numpy)
    ]
    assert sampled[0] == sampled[1] == sampled[2] != greedy
    assert len(list(compiled.generate(list(b"a prompt that is longer than the window"), 3))) == 3


def test_generation_ends_at_any_of_the_model_s_end_tokens(bundle: Path) -> None:
    session = Session(bundle)
    prompt = list(b"The rain in ")
    tokens = list(session.generate(prompt, 6))
    manifest = session.bundle.manifest
    model = replace(manifest.model, eos_token_id=[-1, tokens[3]])
    session.bundle.manifest = replace(manifest, model=model)
    assert list(session.generate(prompt, 6)) == tokens[: tokens.index(tokens[3])]


def test_a_session_needs_neither_torch_nor_the_compiler(bundle: Path, tmp_path: Path) -> None:
    """A fresh process that cannot import them trains, saves and generates."""
    data = tmp_path / "notes.jsonl"
    data.write_text('{"prompt": "ab", "completion": "cd"}\n' * 3)
    program = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'tvm', 'transformers', 'gguf'));"
        "from gsqc.cli.main import main; b, d, r = sys.argv[1:];"
        "assert main(['train', b, '--data', d, '--steps', '2', '--lr', '1e-3', '--run', r]) == 0;"
        "assert main(['eval', b, '--run', r, '--data', d]) == 0;"
        "sys.exit(main(['generate', b, '--run', r, '--prompt', 'ab', '--max-tokens', '2']))"
    )
    command = [sys.executable, "-c", program, str(bundle), str(data), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_a_moved_bundle_works(bundle: Path, tmp_path: Path) -> None:
    """Nothing in a bundle names its place."""
    moved = tmp_path / "elsewhere.gsqc"
    shutil.copytree(bundle, moved)
    assert steps(Session(moved), 1, 1) == steps(Session(bundle), 1, 1)


@pytest.mark.needs_target("llvm")
def test_threads_are_those_asked_for(bundle: Path) -> None:
    """Without a number there are as many as cores, and the caller is one of them."""
    program = (
        "import os, sys; from gsqc.bundle.machine import default_threads;"
        "from gsqc.runtime.session import Session;"
        "tasks = lambda: len(os.listdir('/proc/self/task'));"
        "before = tasks(); Session(sys.argv[1], threads=1); assert tasks() == before;"
        "Session(sys.argv[1]); assert tasks() == before + default_threads() - 1;"
        "Session(sys.argv[1], threads=5); assert tasks() == before + 4"
    )
    subprocess.run([sys.executable, "-c", program, str(bundle)], check=True)

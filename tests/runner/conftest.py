# SPDX-License-Identifier: Apache-2.0
"""A tiny bundle with gsqc-step inside, its token file, and the sanitised build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gsqc.adapters.lora import Lora
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.targets.llvm.sources import FOLDER
from tests.models.capture.tiny import tiny_llama
from tests.runner.steps import RATE, STATE, STEPS, run_python
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(vocab_size=VOCABULARY, eos_token_id=END).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundle") / "tiny.gsqc"
    adapter = Lora(rank=4, alpha=8)
    compile_model(
        str(model),
        CompileOptions(output, adapter=adapter, sequence_length=24, batch=2, runner=True),
    )
    return output


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven records: batches of two cross the end of an epoch."""
    file = tmp_path_factory.mktemp("data") / "notes.jsonl"
    file.write_text(
        "".join(f'{{"prompt": "ab{k}", "completion": "cd{k * k}"}}\n' for k in range(7))
    )
    return file


@pytest.fixture(scope="session")
def tokens(bundle: Path, data: Path) -> Path:
    file = data.with_name("batches.safetensors")
    settings = ["--data", str(data), "--steps", str(STEPS), *RATE]
    assert main(["tokens", str(bundle), *settings, "-o", str(file)]) == 0
    return file


@pytest.fixture(scope="session")
def many(bundle: Path, data: Path) -> Path:
    """A token file whose steps take longer than a test."""
    file = data.with_name("many.safetensors")
    settings = ["--data", str(data), "--steps", "5000", *RATE]
    assert main(["tokens", str(bundle), *settings, "-o", str(file)]) == 0
    return file


@pytest.fixture(scope="session")
def expected(
    bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], bytes]:
    """Ten steps in numpy: the digests, and the saved state."""
    run = tmp_path_factory.mktemp("numpy") / "run"
    digests = run_python(bundle, data, run, 1, STEPS)
    assert len(set(digests)) == STEPS
    return digests, (run / STATE).read_bytes()


@pytest.fixture(scope="session")
def sanitised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with every warning an error, AddressSanitizer and UBSan."""
    folder = tmp_path_factory.mktemp("sanitised")
    assert shutil.which("make")
    subprocess.run(["make", "-s", "-C", str(FOLDER), f"OUT={folder}", "sanitised"], check=True)
    return folder / "gsqc-step-sanitised"

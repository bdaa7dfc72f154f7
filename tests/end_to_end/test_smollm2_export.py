# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M fine-tuned, in peft, transformers, llama.cpp and onnxruntime.

AGREEMENT bounds the rounding of operands to 8 bits (see test_export.py). The 30 blocks have 60
branches into the residual stream, each about 1 % off, which makes √60 · 1 % = 8 % of the logits.
Without the adapter the logits are 30 % off or more.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import xllamacpp
from transformers import AutoModelForCausalLM, AutoTokenizer

from gsqc.adapters.lora import Lora
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.models.catalogue import find_model
from gsqc.runtime.session import Session
from tests.export.float_model import distance, model_logits, session_logits, with_adapter

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPT = "Define LIBERTY.\n"
TEXT = PROMPT + "One of Imagination's most precious possessions."
AGREEMENT = 0.12


class Run:
    """A bundle of SmolLM2 and a run of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bundle, self.run = folder, folder / "smol.gsqc", folder / "run"
        options = CompileOptions(
            self.bundle, base="gguf", adapter=Lora(16, 32), sequence_length=64, seed=1
        )
        compile_model("smollm2-135m", options)
        session = Session(self.bundle, self.run)
        batches = load_data(
            EXAMPLES / "devils-dictionary-train.jsonl", Tokenizer(session.bundle), 64
        ).batches(1, 1)
        for _ in range(25):
            session.step(next(batches), Fraction(1, 1000))
        session.save()
        self.tokens = Tokenizer(session.bundle).encode(TEXT)
        self.logits = session_logits(session, self.tokens)

    def export(self, *arguments: str) -> None:
        assert main(["export", str(self.bundle), "--run", str(self.run), *arguments]) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("smollm2-export"))


def base_model() -> Any:
    file = find_model("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype="float32"
    ).eval()


def test_peft_and_transformers_compute_what_the_session_computes(run: Run) -> None:
    peft, merged = run.folder / "peft", run.folder / "merged"
    run.export("--peft", str(peft), "--merged", str(merged))
    base = base_model()
    assert distance(run.logits, model_logits(base, run.tokens)) > 2 * AGREEMENT
    logits = model_logits(with_adapter(base, peft), run.tokens)
    assert distance(run.logits, logits) < AGREEMENT
    model = AutoModelForCausalLM.from_pretrained(merged).eval()
    assert distance(model_logits(model, run.tokens), logits) < 1e-5
    assert AutoTokenizer.from_pretrained(merged).encode(TEXT) == run.tokens


def test_onnxruntime_computes_what_the_session_computes(run: Run) -> None:
    run.export("--onnx", str(run.folder / "m.onnx"))
    logits = onnxruntime.InferenceSession(run.folder / "m.onnx").run(
        None, {"input_ids": np.array([run.tokens])}
    )[0]
    assert distance(run.logits, logits[0]) < AGREEMENT


def llama_cpp(model: Path, adapter: Path | None = None) -> dict[int, float]:
    """Log probabilities of the likeliest next tokens after PROMPT, in llama.cpp."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup = str(model), 256, 0, False
    params.cpuparams.n_threads = 2
    if adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    request = {"prompt": PROMPT, "n_predict": 1, "temperature": 0, "logprobs": 10, "n_probs": 10}
    answer = xllamacpp.Server(params).handle_completions(request)
    first = answer["choices"][0]["logprobs"]["content"][0]
    return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}


def test_llama_cpp_computes_what_the_session_computes(run: Run) -> None:
    """llama.cpp reads the adapter with --lora, and the merged file."""
    adapter, merged = run.folder / "lora.gguf", run.folder / "merged.gguf"
    run.export("--gguf", str(adapter), "--merged", str(merged), "--dtype", "f16")
    last = run.logits[len(Tokenizer(Session(run.bundle).bundle).encode(PROMPT)) - 1]
    ours = last - last.max() - np.log(np.exp(last - last.max()).sum())
    base = find_model("smollm2-135m")

    def away(theirs: dict[int, float]) -> float:
        """How far llama.cpp is off: RMS over ten tokens, as a share of the logits' deviation."""
        return float(
            np.sqrt(np.mean([(ours[token] - p) ** 2 for token, p in theirs.items()])) / last.std()
        )

    assert away(llama_cpp(base, adapter)) < AGREEMENT
    assert away(llama_cpp(merged)) < AGREEMENT
    assert away(llama_cpp(base)) > 2 * AGREEMENT

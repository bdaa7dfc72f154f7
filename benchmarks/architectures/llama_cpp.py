# SPDX-License-Identifier: Apache-2.0
"""llama.cpp on a GGUF file, by the wheel xllamacpp, in a process of its own.

It aborts on files that it does not expect, and the matrix has to go on.

    python -m benchmarks.architectures.llama_cpp FILE
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

PROMPT = tuple(range(97, 117))
"""Tokens: the byte tokenizer's numbers."""
_SECONDS = 120


def likeliest(file: Path) -> dict[int, float]:
    """Log probabilities of the ten likeliest tokens after PROMPT, by number."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup = str(file), 64, 0, False
    params.cpuparams.n_threads = 2
    request = {"prompt": list(PROMPT), "n_predict": 1, "temperature": 0, "logprobs": 10}
    answer = xllamacpp.Server(params).handle_completions({**request, "n_probs": 10})
    first = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return {entry["id"]: entry["logprob"] for entry in first}


def distance(file: Path, model: Any) -> float:
    """RMS over the ten likeliest next tokens: log probabilities in llama.cpp less the model's.

    The file's weights are f16 and llama.cpp rounds activations to it, so about 1e-3 is expected.
    Raises RuntimeError with llama.cpp's first error if it does not read the file.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.architectures.llama_cpp", str(file)],
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(next((line for line in lines if "error" in line), lines[-1]))
    theirs = json.loads(done.stdout.splitlines()[-1])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT]), use_cache=False).logits[0, -1]
    ours = torch.log_softmax(logits.double(), -1).numpy()
    return float(np.sqrt(np.mean([(ours[int(token)] - p) ** 2 for token, p in theirs.items()])))


if __name__ == "__main__":
    print(json.dumps(likeliest(Path(sys.argv[1]))))

# SPDX-License-Identifier: Apache-2.0
"""llama.cpp on a GGUF file, by the wheel xllamacpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

PROMPT = tuple(range(97, 117))
"""Tokens: the byte tokenizer's numbers."""


def distance(file: Path, model: Any) -> float:
    """RMS over the ten likeliest next tokens: log probabilities in llama.cpp less the model's.

    The file's weights are f16 and llama.cpp rounds activations to it, so about 1e-3 is expected.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_gpu_layers, params.warmup = str(file), 64, 0, False
    params.cpuparams.n_threads = 2
    request = {"prompt": list(PROMPT), "n_predict": 1, "temperature": 0, "logprobs": 10}
    answer = xllamacpp.Server(params).handle_completions({**request, "n_probs": 10})
    first = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT]), use_cache=False).logits[0, -1]
    ours = torch.log_softmax(logits.double(), -1).numpy()
    return float(np.sqrt(np.mean([(ours[entry["id"]] - entry["logprob"]) ** 2 for entry in first])))

# SPDX-License-Identifier: Apache-2.0
"""The token file: the data and options of a run for gsqc-step, which has no Python.

It is a safetensors file of int32 tensors:

tokens, labels, weights, positions  [sequences, length]  the data set as a session would see it
order               [steps, batch]  the sequences of each step by number, 1 to 64 a step
learning_rate_m, …  [steps]         the numbers of each step: INPUTS and CLIP_INPUTS of optimizers

Its metadata are format, optimizer, tokenizer_sha256 and settings. A bundle must have that optimizer
and that tokenizer. `settings` is the run's config as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import TOKENIZER
from gsqc.bundle.tensor_file import tensor_file
from gsqc.data import TokenSequence
from gsqc.errors import DataError
from gsqc.files.writing import write_result
from gsqc.numerics.optim.optimizer import CLIP_INPUTS, INPUTS
from gsqc.runtime.requirements import SEQUENCE_INPUTS, require_clipping
from gsqc.training.options import TrainOptions

FORMAT = "gsqc-tokens-3"
EXPONENT_END = 4096
"""gsqc-step refuses exponents of a step's numbers that are not below this."""


def token_tensors(
    bundle: Bundle,
    sequences: Sequence[TokenSequence],
    order: Sequence[Sequence[int]],
    options: TrainOptions,
) -> dict[str, npt.NDArray[np.int32]]:
    """The tensors for the steps of `order`. Raises OptionError and DataError."""
    rates, decay, clip = options.rates, options.decay, options.largest_norm
    optimizer = bundle.manifest.trained_by()
    require_clipping(optimizer, clip)
    sums = [int(s.weights.sum()) for s in sequences]
    inputs: dict[str, list[int]] = {name: [] for name in (*INPUTS, *CLIP_INPUTS)}
    for step, chosen in enumerate(order, 1):
        weight = sum(sums[k] for k in chosen)
        if weight == 0:
            raise DataError(
                f"the batch of step {step} has no token with a loss",
                "give records a completion that fits the sequence length",
            )
        for name, value in optimizer.step_inputs(rates.at(step), decay, step, weight, clip).items():
            inputs[name].append(value)
    data = {name: np.stack([getattr(s, name) for s in sequences]) for name in SEQUENCE_INPUTS}
    numbers = {name: np.array(values, np.int32) for name, values in inputs.items()}
    return {**data, "order": np.array(order, np.int32), **numbers}


def write_token_file(
    path: Path,
    bundle: Bundle,
    sequences: Sequence[TokenSequence],
    order: Sequence[Sequence[int]],
    options: TrainOptions,
    settings: dict[str, Any],
) -> None:
    """Write the token file of a run. Raises DataError, FileError.

    `order` holds the numbers of each step's sequences. `settings` goes into config.json.
    """
    # A bundle without a tokenizer is stepped too: a check makes its tokens at random.
    tokenizer = bundle.manifest.files.get(TOKENIZER)
    metadata = {
        "format": FORMAT,
        "optimizer": bundle.manifest.optimizer,
        "tokenizer_sha256": tokenizer.sha256 if tokenizer is not None else "",
        "settings": json.dumps(settings),
    }
    write_result(path, tensor_file(token_tensors(bundle, sequences, order, options), metadata))

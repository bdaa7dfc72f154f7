# SPDX-License-Identifier: Apache-2.0
"""The token file: all that `gsqc train` takes from its data and options, for a runner without Python.

A safetensors file of int32 tensors:

tokens, labels, weights   [sequences, length]   the data set as the session would see it
order                     [steps, batch]        the sequences of each step, by number
learning_rate_m, …        [steps]               the optimizer's integer inputs of each step

and metadata: format, optimizer, tokenizer_sha256 (what a bundle must have), settings (the run's config, as JSON).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle import Bundle
from gsqc.errors import DataError
from gsqc.optim import OPTIMIZERS
from gsqc.runtime.data import TokenSequence
from gsqc.runtime.schedule import Schedule, parse_fraction
from gsqc.runtime.store import write_atomically
from gsqc.tensor_file import tensor_file

FORMAT = "gsqc-tokens-1"


def token_tensors(
    bundle: Bundle,
    sequences: Sequence[TokenSequence],
    order: Sequence[Sequence[int]],
    schedule: Schedule,
    settings: dict[str, Any],
) -> dict[str, npt.NDArray[np.int32]]:
    """The tensors for the steps of `order`. DataError if a batch has no token with a loss."""
    decay = parse_fraction(settings["weight_decay"], "--weight-decay", 1)
    optimizer = OPTIMIZERS[bundle.manifest["optimizer"]]
    sums = [int(s.weights.sum()) for s in sequences]
    inputs: dict[str, list[int]] = {name: [] for name in optimizer.inputs}
    for step, chosen in enumerate(order, 1):
        weight = sum(sums[k] for k in chosen)
        if weight == 0:
            raise DataError(
                f"the batch of step {step} has no token with a loss",
                "give records a completion that fits the sequence length",
            )
        for name, value in optimizer.step_inputs(schedule.rate(step), decay, step, weight).items():
            inputs[name].append(value)
    data = {name: np.stack([getattr(s, name) for s in sequences]) for name in ("tokens", "labels", "weights")}
    numbers = {name: np.array(values, np.int32) for name, values in inputs.items()}
    return {**data, "order": np.array(order, np.int32), **numbers}


def write_token_file(
    path: Path,
    bundle: Bundle,
    sequences: Sequence[TokenSequence],
    order: Sequence[Sequence[int]],
    schedule: Schedule,
    settings: dict[str, Any],
) -> None:
    """Write the file for a run with these settings; `order` holds each step's sequences by number.

    Raises DataError, RunError.
    """
    metadata = {
        "format": FORMAT,
        "optimizer": bundle.manifest["optimizer"],
        "tokenizer_sha256": bundle.manifest["files"]["tokenizer.json"]["sha256"],
        "settings": json.dumps(settings),
    }
    write_atomically(path, tensor_file(token_tensors(bundle, sequences, order, schedule, settings), metadata))

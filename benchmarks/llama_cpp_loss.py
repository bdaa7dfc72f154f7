# SPDX-License-Identifier: Apache-2.0
"""The loss of llama.cpp on token sequences.

A process of its own, because llama.cpp ends the process on files that it does not expect:

    python -m benchmarks.llama_cpp_loss FILE [ADAPTER] < sequences.jsonl

Each line has tokens, labels and weights: integers, as in gsqc's token files. Prints the mean loss
in nats of the tokens that have a weight.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gsqc.data.sequences import TokenSequence
from tests.llama_library import LlamaModel


def loss_in_llama_cpp(
    file: Path, sequences: Sequence[TokenSequence], adapter: Path | None = None
) -> float:
    """The mean loss in nats of the weighted tokens of `sequences`.

    Raises RuntimeError with the end of llama.cpp's messages.
    """
    lines = [
        json.dumps({name: getattr(s, name).tolist() for name in ("tokens", "labels", "weights")})
        for s in sequences
    ]
    command = [sys.executable, "-m", "benchmarks.llama_cpp_loss", str(file)]
    command += [str(adapter)] if adapter else []
    done = subprocess.run(
        command, input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the loss of the sequences on standard input."""
    file, *adapter = map(Path, sys.argv[1:])
    total, count = 0.0, 0
    with LlamaModel(file) as model:
        for line in map(json.loads, sys.stdin):
            logits = model.logits(line["tokens"], *adapter).astype(np.float64)
            losses = np.logaddexp.reduce(logits, axis=1)
            losses -= logits[np.arange(len(logits)), line["labels"]]
            weights = np.array(line["weights"]) > 0
            total, count = total + float(losses[weights].sum()), count + int(weights.sum())
    print(total / count)


if __name__ == "__main__":
    main()

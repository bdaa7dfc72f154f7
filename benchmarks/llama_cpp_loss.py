# SPDX-License-Identifier: Apache-2.0
"""The loss of llama.cpp on token sequences, by the C functions in the wheel xllamacpp.

A process of its own, because llama.cpp ends the process on files that it does not expect:

    python -m benchmarks.llama_cpp_loss FILE [ADAPTER] < sequences.jsonl

Each line has tokens, labels and weights: integers, as in gsqc's token files. Prints the mean loss
in nats of the tokens that have a weight.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.data.sequences import TokenSequence

_SETTINGS_BYTES = 1024
"""More than llama.cpp's structures of settings have. Both are returned and passed in memory."""
_POINTERS = {
    "llama_model_load_from_file",
    "llama_init_from_model",
    "llama_model_get_vocab",
    "llama_get_memory",
    "llama_get_logits_ith",
    "llama_adapter_lora_init",
}


class _Settings(ctypes.Structure):
    """llama_model_params or llama_context_params: defaults, of which only the first is changed."""

    _fields_ = (("first", ctypes.c_uint32), ("rest", ctypes.c_uint8 * (_SETTINGS_BYTES - 4)))


class _Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


class LlamaCpp:
    """A GGUF model in llama.cpp, with an adapter or without, for sequences of `length` tokens."""

    def __init__(self, file: Path, adapter: Path | None, length: int) -> None:
        import xllamacpp

        self._c: Any = ctypes.CDLL(str(xllamacpp.xllamacpp.__file__))
        for name in _POINTERS:
            getattr(self._c, name).restype = ctypes.c_void_p
        for name in ("llama_model_default_params", "llama_context_default_params"):
            getattr(self._c, name).restype = _Settings
        self._c.llama_batch_init.restype = _Batch
        self._c.llama_backend_init()
        defaults = self._c.llama_model_default_params()
        model = self._pointer("llama_model_load_from_file", str(file).encode(), defaults)
        settings = self._c.llama_context_default_params()
        settings.first = length  # n_ctx
        self._context = self._pointer("llama_init_from_model", model, settings)
        self._columns = self._c.llama_vocab_n_tokens(self._pointer("llama_model_get_vocab", model))
        if adapter is not None:
            lora = self._pointer("llama_adapter_lora_init", model, str(adapter).encode())
            adapters, scales = (ctypes.c_void_p * 1)(lora), (ctypes.c_float * 1)(1.0)
            done = self._c.llama_set_adapters_lora(
                self._context, adapters, ctypes.c_size_t(1), scales
            )
            assert done == 0, "llama.cpp does not take the adapter"
        self._batch = self._c.llama_batch_init(length, 0, 1)

    def _pointer(self, name: str, *given: Any) -> ctypes.c_void_p:
        found = getattr(self._c, name)(*given)
        assert found, f"{name} failed"
        return ctypes.c_void_p(found)

    def logits(self, tokens: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [tokens, vocabulary]."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for k, token in enumerate(tokens):
            batch.token[k], batch.pos[k] = token, k
            batch.n_seq_id[k], batch.seq_id[k][0], batch.logits[k] = 1, 0, 1
        self._c.llama_memory_clear(self._pointer("llama_get_memory", self._context), True)
        assert self._c.llama_decode(self._context, batch) == 0, "llama_decode failed"
        rows = []
        for k in range(len(tokens)):
            place = self._pointer("llama_get_logits_ith", self._context, k).value
            assert place is not None
            rows.append((ctypes.c_float * self._columns).from_address(place))
        return np.array(rows, np.float32)


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
    lines = [json.loads(line) for line in sys.stdin]
    model = LlamaCpp(file, adapter[0] if adapter else None, max(len(x["tokens"]) for x in lines))
    total, count = 0.0, 0
    for line in lines:
        logits = model.logits(line["tokens"]).astype(np.float64)
        top = logits.max(axis=1)
        losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        losses -= logits[np.arange(len(logits)), line["labels"]]
        weights = np.array(line["weights"]) > 0
        total, count = total + float(losses[weights].sum()), count + int(weights.sum())
    print(total / count)


if __name__ == "__main__":
    main()

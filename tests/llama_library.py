# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's own functions, from the library in the wheel xllamacpp: tokens and logits of a GGUF
file. The signatures are those of include/llama.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

_SETTINGS_BYTES = 1024
"""More than llama.cpp's structures of settings have. Both are returned and passed in memory."""
_POINTERS = (
    *("llama_model_load_from_file", "llama_model_get_vocab", "llama_init_from_model"),
    *("llama_get_memory", "llama_get_logits_ith", "llama_adapter_lora_init"),
)


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


@cache
def library() -> Any:
    """The library, with the types of what its functions return."""
    import xllamacpp

    functions: Any = ctypes.CDLL(str(xllamacpp.xllamacpp.__file__))
    for name in _POINTERS:
        getattr(functions, name).restype = ctypes.c_void_p
    functions.llama_model_default_params.restype = _Settings
    functions.llama_context_default_params.restype = _Settings
    functions.llama_batch_init.restype = _Batch
    functions.ggml_quantize_chunk.restype = ctypes.c_size_t
    functions.llama_backend_init()
    return functions


def _pointer(name: str, *given: Any) -> ctypes.c_void_p:
    """What a function returns. RuntimeError if it is nothing."""
    found = getattr(library(), name)(*given)
    if not found:
        raise RuntimeError(f"{name} failed")
    return ctypes.c_void_p(found)


def _require(name: str, *given: Any) -> None:
    """RuntimeError unless a function returns 0."""
    if getattr(library(), name)(*given) != 0:
        raise RuntimeError(f"{name} failed")


class LlamaModel:
    """An open GGUF file. Use it as a context manager. Raises RuntimeError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        defaults = library().llama_model_default_params()
        self._model = _pointer("llama_model_load_from_file", str(path).encode(), defaults)
        self._vocabulary = _pointer("llama_model_get_vocab", self._model)

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        library().llama_model_free(self._model)

    def encode(self, text: str, *, begin: bool = False) -> list[int]:
        """The tokens of a text, control tokens among them. `begin` adds BOS where the file does."""
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 8))()
        count = library().llama_tokenize(
            self._vocabulary, raw, len(raw), room, len(room), begin, True
        )
        assert count >= 0
        return list(room[:count])

    def logits(self, tokens: Sequence[int], adapter: Path | None = None) -> npt.NDArray[np.float32]:
        """float32 [tokens, vocabulary], with a LoRA adapter's file or without."""
        functions, count = library(), len(tokens)
        settings = functions.llama_context_default_params()
        settings.first = count  # n_ctx
        context = _pointer("llama_init_from_model", self._model, settings)
        batch = functions.llama_batch_init(count, 0, 1)
        try:
            if adapter is not None:
                lora = _pointer("llama_adapter_lora_init", self._model, str(adapter).encode())
                given = (ctypes.c_void_p * 1)(lora.value), ctypes.c_size_t(1)
                _require("llama_set_adapters_lora", context, *given, (ctypes.c_float * 1)(1.0))
            batch.n_tokens = count
            for k, token in enumerate(tokens):
                batch.token[k], batch.pos[k] = token, k
                batch.n_seq_id[k], batch.seq_id[k][0], batch.logits[k] = 1, 0, 1
            _require("llama_decode", context, batch)
            columns = functions.llama_vocab_n_tokens(self._vocabulary)
            rows = []
            for k in range(count):
                place: Any = _pointer("llama_get_logits_ith", context, k).value
                rows.append((ctypes.c_float * columns).from_address(place))
            return np.array(rows, np.float32)
        finally:
            functions.llama_batch_free(batch)
            functions.llama_free(context)

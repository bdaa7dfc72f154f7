# SPDX-License-Identifier: Apache-2.0
"""The tokens that llama.cpp makes of a text: llama_tokenize of its library, on a GGUF file."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest


class _Parameters(ctypes.Structure):
    """llama_model_params, which is passed by value. It is shorter than this."""

    _fields_ = (("content", ctypes.c_byte * 512),)


@cache
def _library() -> Any:
    package = pytest.importorskip("xllamacpp")
    library = ctypes.CDLL(str(package.xllamacpp.__file__))
    library.llama_model_default_params.restype = _Parameters
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Parameters]
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    library.llama_model_free.argtypes = [ctypes.c_void_p]
    library.llama_tokenize.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
        *(ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool),
    ]
    library.llama_backend_init()
    return library


class LlamaTokenizer:
    """The tokenizer of an open GGUF file."""

    def __init__(self, vocabulary: Any) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str, *, begin: bool = False) -> list[int]:
        """The tokens of a text, control tokens among them. `begin` adds BOS where the file does."""
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 8))()
        count = _library().llama_tokenize(
            self._vocabulary, raw, len(raw), room, len(room), begin, True
        )
        assert count >= 0
        return list(room[:count])


@contextmanager
def llama_tokenizer(path: Path) -> Iterator[LlamaTokenizer]:
    """Open a GGUF file with its weights."""
    library = _library()
    model = library.llama_model_load_from_file(
        str(path).encode(), library.llama_model_default_params()
    )
    assert model, path
    try:
        yield LlamaTokenizer(library.llama_model_get_vocab(model))
    finally:
        library.llama_model_free(model)

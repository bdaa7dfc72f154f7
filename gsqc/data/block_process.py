# SPDX-License-Identifier: Apache-2.0
"""A program that reads blocks of lines of a JSONL file. `block_reader` starts several of them.

It holds the tokenizer in this same process, and imports what `read_corpus` works with. It begins
with {tokenizer_json, model, reading}. A request {name, first, shape} has whole lines behind it:

name   of the file
first  the number of the first line
shape  of the file's records

The answer is {counts, sizes} and the arrays of a corpus (`corpus`). Lines in which anything is
wrong are refused: the file is then read by one process, which says what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gsqc.data.batches import batches
from gsqc.data.content import BYTE_ORDER_MARK, MAXIMUM_LINE_BYTES
from gsqc.data.corpus import Corpus
from gsqc.data.encode import Encoder, Reading, chat_renderer
from gsqc.data.json_reader import read_lines
from gsqc.data.problems import Problems
from gsqc.data.tokenizer import Tokenizer
from gsqc.data.tokenizer_process import LIMITS as LIMITS
from gsqc.data.tokenizer_process import open_program as open_tokenizer
from gsqc.errors import GsqcError


class _Here:
    """A program in this process, in place of a BoundedProcess."""

    def __init__(self, _: str, begin: dict[str, Any]) -> None:
        self._program = open_tokenizer(begin)

    def ask(self, request: dict[str, Any], raw: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """As BoundedProcess.ask."""
        answer = self._program.answer({**request, "raw": raw} if raw else request)
        return answer if isinstance(answer, tuple) else (answer, b"")


class BlockReader:
    """Makes a corpus of each block."""

    def __init__(self, begin: dict[str, Any]) -> None:
        self._reading = Reading(**begin["reading"])
        tokenizer = Tokenizer.of_model(begin["tokenizer_json"], begin["model"], _Here)
        self._encoder = Encoder(tokenizer, chat_renderer(tokenizer), self._reading)

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer to a request. ValueError if anything is wrong with the lines."""
        lines = _lines(request["raw"], request["first"])
        problems = Problems(strict=self._reading.strict)
        records = read_lines(request["name"], lines, problems, request["shape"])
        try:
            corpus = self._corpus(records, problems)
        except GsqcError as error:
            raise ValueError(str(error)) from None
        arrays = corpus.arrays().values()
        answer = {"counts": corpus.counts(), "sizes": [array.nbytes for array in arrays]}
        return answer, b"".join(array.tobytes() for array in arrays)

    def _corpus(self, records: Iterator[Any], problems: Problems) -> Corpus:
        corpus = Corpus()
        for batch in batches(records, self._encoder, problems):
            corpus.add(batch, self._encoder.encode(batch), self._encoder)
        corpus.tell(problems, self._encoder)
        return corpus


def _lines(block: bytes, first: int) -> Iterator[tuple[int, str]]:
    """The lines behind their numbers. ValueError for what is no text of lines."""
    if len(block) > MAXIMUM_LINE_BYTES and max(map(len, block.split(b"\n"))) >= MAXIMUM_LINE_BYTES:
        raise ValueError("a line is too long")
    if b"\0" in block:
        raise ValueError("a zero byte")
    text = (block.removeprefix(BYTE_ORDER_MARK) if first == 1 else block).decode()
    return enumerate(text.split("\n"), first)


def open_program(begin: dict[str, Any]) -> BlockReader:
    """The reader that `begin` describes. ValueError if the tokenizer cannot be read."""
    try:
        return BlockReader(begin)
    except GsqcError as error:
        raise ValueError(str(error)) from None

# SPDX-License-Identifier: Apache-2.0
"""A large JSONL file is read by several processes, a block of lines at a time.

What comes of it is what one process makes of the file, to the last count. If anything is wrong with
a line, the blocks are given up, and one process reads the file and says what it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from gsqc.bundle.machine import default_threads
from gsqc.data.bounded_process import BoundedProcess, ProcessEnded
from gsqc.data.content import Content
from gsqc.data.corpus import ARRAYS, Corpus, Progress
from gsqc.data.directories import DataFile
from gsqc.data.encode import Reading
from gsqc.data.json_reader import shape_of_lines
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import GsqcError

_BLOCK_BYTES = 2 << 20
_LEAST_BYTES = 8 << 20
"""Of a file for each process: to start one takes as long as to read a few of them."""
_MOST_PROCESSES = 8
_MOST_MEMORY = 2 << 30
_PROCESS_MEMORY, _TIMES_TOKENIZER = 180 << 20, 16
"""Bytes that a process takes, without its tokenizer, and how many times the size of tokenizer.json
that takes."""


def read_blocks(
    file: DataFile, tokenizer: Tokenizer, reading: Reading, progress: Progress
) -> Corpus | None:
    """The corpus of a JSONL file. None if one process has to read it.

    That is so for a small file, on one core, and if anything is wrong with a line.
    """
    content = Content(file)
    if content.size < 2 * _LEAST_BYTES:
        return None
    corpus = Corpus()
    try:
        begin = {**tokenizer.begin(), "reading": asdict(reading)}
        count = _process_count(content.size, len(begin["tokenizer_json"]))
        if count < 2:
            return None
        with _Readers(count, begin) as readers:
            for part in _parts(content, readers, 2 * count):
                corpus.take(part)
                progress.at(content.position)
    except (GsqcError, ProcessEnded, ValueError):
        return None
    return corpus


def _process_count(file_bytes: int, tokenizer_bytes: int) -> int:
    memory = _PROCESS_MEMORY + _TIMES_TOKENIZER * tokenizer_bytes
    most = min(_MOST_PROCESSES, _MOST_MEMORY // memory, default_threads())
    return min(most, file_bytes // _LEAST_BYTES)


def _parts(content: Content, readers: _Readers, ahead: int) -> Iterator[Corpus]:
    """What comes of each block, in order. At most so many are read ahead."""
    shape: str | None = None
    waiting: deque[Future[Corpus]] = deque()
    for first, block in content.blocks(_BLOCK_BYTES):
        if shape is None:
            shape = shape_of_lines(block.decode().split("\n"))
        request = {"name": content.name, "first": first, "shape": shape}
        waiting.append(readers.read(request, block))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    for part in waiting:
        yield part.result()


class _Readers:
    """Processes that read blocks, each with a thread that waits for it."""

    def __init__(self, count: int, begin: dict[str, Any]) -> None:
        self._begin, self._own = begin, threading.local()
        self._processes: list[BoundedProcess] = []
        self._threads = ThreadPoolExecutor(count, "blocks")

    def read(self, request: dict[str, Any], block: bytes) -> Future[Corpus]:
        """The corpus of a block, by the next process that is free."""
        return self._threads.submit(self._read, request, block)

    def _read(self, request: dict[str, Any], block: bytes) -> Corpus:
        if not hasattr(self._own, "process"):
            self._own.process = BoundedProcess("block_process.py", self._begin)
            self._processes.append(self._own.process)
        answer, behind = self._own.process.ask(request, block)
        places = pairwise(accumulate(answer["sizes"], initial=0))
        arrays = {
            name: np.frombuffer(behind[start:end], kind)
            for (name, kind), (start, end) in zip(ARRAYS.items(), places, strict=True)
        }
        return Corpus.of(arrays, answer["counts"])

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, which ends the wait of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._close()
        self._threads.shutdown()
        self._close()  # a thread may have been starting one

    def _close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(OSError, ValueError):
                process.close()

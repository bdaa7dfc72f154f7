# SPDX-License-Identifier: Apache-2.0
"""A process with limits of time and memory, for what a stranger's file may make endless or abort.

It ends with its parent, and with the object that stands for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

_PROGRAM = Path(__file__).with_name("bounded_program.py")
_ENDING_SECONDS = 10


class Process(Protocol):
    """A BoundedProcess, or what stands for it."""

    def ask(self, request: dict[str, Any], raw: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer to a request. Raises ValueError and ProcessEnded."""


Start = Callable[[str, dict[str, Any]], Process]
"""Starts a program of this folder with the first request."""


class ProcessEnded(Exception):
    """The process has ended without an answer. The text says how."""


class BoundedProcess:
    """A program that answers requests, a file of this folder (bounded_program says how it looks).

    Raises ProcessEnded if the first request, `begin`, ends the process, and ValueError if the
    program refuses it. It serves the process that made it. A fork of that one has its pipes too,
    and must leave them alone: there every request raises ProcessEnded.
    """

    def __init__(self, program: str, begin: dict[str, Any]) -> None:
        # -P keeps the program from importing modules of its own directory. -B: it may write no
        # files, so no bytecode either. The seed fixes the order of sets.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(_PROGRAM), str(_PROGRAM.parent / program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._owner = os.getpid()
        self.close = weakref.finalize(self, _end, self._process, self._owner)
        try:
            self.ask(begin)
        except BaseException:
            self.close()
            raise

    def ask(self, request: dict[str, Any], raw: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """The answer to a request with the bytes behind it, and the bytes behind the answer.

        Raises ValueError if the program refuses the request, and ProcessEnded.
        """
        if os.getpid() != self._owner:
            raise ProcessEnded("it belongs to the process that this one was forked from")
        request = {**request, "raw": len(raw)} if raw else request
        line = json.dumps(request, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            answer, behind = self._exchange(line + b"\n" + raw)
        except OSError:
            raise ProcessEnded(self._how_it_ended()) from None
        except BaseException:  # Ctrl-C. The answer would be taken for that of the next request.
            self.close()
            raise
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer, behind

    def _exchange(self, line: bytes) -> tuple[dict[str, Any], bytes]:
        """Write a request and read its answer. OSError if there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self.close.alive:
            raise BrokenPipeError
        self._process.stdin.write(line)
        self._process.stdin.flush()
        head = self._process.stdout.readline()
        if not head.endswith(b"\n"):
            raise BrokenPipeError
        answer: dict[str, Any] = json.loads(head)
        raw = self._process.stdout.read(answer.get("raw", 0))
        if len(raw) != answer.get("raw", 0):
            raise BrokenPipeError
        return answer, raw

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if status >= 0:
            return f"exit code {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:  # a signal without a name of its own
            name = str(-status)
        return "it took more time than its limit" if name == "SIGXCPU" else f"signal {name}"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:
        process.kill()
        process.communicate()

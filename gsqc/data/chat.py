# SPDX-License-Identifier: Apache-2.0
"""Chats as text by a model's own template. It runs in a process with limits of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from gsqc.data.records import Chat
from gsqc.errors import DataError

MAXIMUM_TEMPLATE = 1 << 18
_PROGRAM = Path(__file__).with_name("chat_process.py")


@dataclass(frozen=True)
class RenderedChat:
    """A chat as text, and the ranges [start, end) of its characters that have a loss."""

    text: str
    spans: list[tuple[int, int]]


class ChatRenderer:
    """Renders chats with a template. Use it as a context manager: leaving it ends the process.

    template   the model's own, a Jinja text, or None
    variables  what a template knows besides the chat: bos_token and eos_token

    The process starts with the first chat. Raises DataError if there is no template, if it is
    malformed, if jinja2 is missing, or if the template exceeds its limits of time and memory.
    """

    def __init__(self, template: str | None, variables: dict[str, str]) -> None:
        self.template, self.variables = template, variables
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ChatRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def render(self, chat: Chat, *, mask_prompt: bool) -> RenderedChat:
        """The text of a chat. The assistant's turns count, or all of it without `mask_prompt`.

        Raises ValueError if the template refuses the chat, and DataError.
        """
        answer = self._ask(chat, "assistant" if mask_prompt else "all")
        return RenderedChat(
            answer["text"], [(int(start), int(end)) for start, end in answer["spans"]]
        )

    def prompt(self, chat: Chat) -> str:
        """The text that the assistant's next turn follows.

        Raises ValueError if the template refuses the chat, and DataError.
        """
        return str(self._ask(chat, "prompt")["text"])

    def _ask(self, chat: Chat, mode: str) -> dict[str, Any]:
        if self._process is None:
            self._process = self._start()
        answer = self._exchange({"messages": chat.messages, "tools": chat.tools, "mode": mode})
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self.template is None:
            raise DataError(
                "the bundle's model has no chat template, so chats cannot be read",
                "give records of prompt and completion, "
                "or compile a model that has one (an instruction-tuned one)",
            )
        if find_spec("jinja2") is None:
            raise DataError(
                "chats need the package jinja2, which is not installed",
                "pip install 'jinja2>=3.1.6'",
            )
        if len(self.template) > MAXIMUM_TEMPLATE:
            raise DataError(
                "the model's chat template is too large to be one",
                "give records of prompt and completion",
            )
        # -P keeps the program from importing modules of its own directory. -B: it may write no
        # files, so no bytecode either. The seed fixes the order of sets.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        answer = self._exchange({"template": self.template, "variables": self.variables})
        if "error" in answer:
            raise DataError(
                answer["error"], "give records of prompt and completion, or another model"
            )
        return self._process

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        assert (
            self._process is not None
            and self._process.stdin is not None
            and self._process.stdout is not None
        )
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise DataError(
                "the model's chat template took more than its limits of time and memory",
                "give records of prompt and completion, "
                "or another model: this template is not to be trusted",
            ) from None
        assert isinstance(answer, dict)
        return answer

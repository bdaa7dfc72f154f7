# SPDX-License-Identifier: Apache-2.0
"""Chats as text by a model's own template. It runs in a process with limits of time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from gsqc.data.bounded_process import BoundedProcess, ProcessEnded
from gsqc.data.examples import Chat
from gsqc.errors import DataError

MAXIMUM_TEMPLATE = 1 << 18
_PROMPTED = "give records of prompt and completion"


@dataclass(frozen=True)
class RenderedChat:
    """A chat as text, and the ranges [start, end) of its characters that have a loss.

    In a chat with `learned`, turns of the assistant without a loss are in none of them.
    """

    text: str
    spans: list[tuple[int, int]]


class ChatRenderer:
    """Renders chats with a template. Use it as a context manager: leaving it ends the process.

    template   the model's own, a Jinja text, several by name, or None
    variables  what a template knows besides the chat: bos_token, eos_token and others
    controls   texts of control tokens. White space behind one that ends a turn has no loss.
    ends       those that end generation beside eos_token. What a template writes behind one has no
               loss.

    The process starts with the first chat. Raises DataError if there is no template, if it is
    malformed, if jinja2 is missing, or if the template exceeds its limits of time and memory.
    """

    def __init__(
        self,
        template: str | Mapping[str, str] | None,
        variables: dict[str, str],
        controls: Iterable[str] = (),
        ends: Iterable[str] = (),
    ) -> None:
        self.template, self.variables = template, variables
        self.ends = [end for end in (*ends, variables.get("eos_token")) if end]
        self.controls = [*self.ends, *(text for text in controls if text)]
        self._process: BoundedProcess | None = None

    def __enter__(self) -> ChatRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.close()

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
        try:
            request = {
                "messages": chat.messages,
                "tools": chat.tools,
                "learned": chat.learned,
                "mode": mode,
            }
            return self._process.ask(request)[0]
        except ProcessEnded as ended:
            raise _beyond_limits(ended) from None

    def _start(self) -> BoundedProcess:
        if self.template is None:
            raise DataError(
                "the bundle's model has no chat template, so chats cannot be read",
                f"{_PROMPTED}, or compile a model that has one (an instruction-tuned one)",
            )
        if find_spec("jinja2") is None:
            raise DataError(
                "chats need the package jinja2, which is not installed",
                "pip install 'jinja2>=3.1.6'",
            )
        given = self.template
        templates = {"default": given} if isinstance(given, str) else dict(given)
        if any(len(template) > MAXIMUM_TEMPLATE for template in templates.values()):
            raise DataError("the model's chat template is too large to be one", _PROMPTED)
        begin = {
            "templates": templates,
            "variables": self.variables,
            "controls": self.controls,
            "ends": self.ends,
        }
        try:
            return BoundedProcess("chat_process.py", begin)
        except ProcessEnded as ended:
            raise _beyond_limits(ended) from None
        except ValueError as error:
            raise DataError(str(error), f"{_PROMPTED}, or another model") from None


def _beyond_limits(ended: ProcessEnded) -> DataError:
    return DataError(
        f"the model's chat template took more than its limits of time and memory ({ended})",
        f"{_PROMPTED}, or another model: this template is not to be trusted",
    )

# SPDX-License-Identifier: Apache-2.0
"""The environment of chat templates: transformers', with the same result on every machine and day.

A part of the program chat_process, which imports nothing of gsqc but its own files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAXIMUM_TEXT = 16 << 20
OPEN, CLOSE = "\udc00", "\udc01"
"""Marks around what the assistant wrote: halves of surrogate pairs, which no record may hold."""
PART = "\udc02"
"""Another mark, around the number of a part of a chat."""
TODAY = datetime(2024, 7, 26)
"""What a template gets for today: the date that Llama 3's writes where it gets none."""
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names of reasoning in messages. Templates read the first, and some the second."""

Messages = list[dict[str, Any]]


class ChatError(ValueError):
    """The template refuses a chat, or does not show where the assistant's turns are."""


class Generation(Extension):
    """The block {% generation %}, with which a template marks the assistant's turns itself."""

    tags = {"generation"}  # noqa: RUF012  # the way jinja declares them

    def parse(self, parser: Any) -> Any:
        """The block as a call of `_marked`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        self.environment.extend(has_generation=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


class SafeNamespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, which leave the sandbox."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError("a template may not set names that begin with an underscore")
        super().__setitem__(name, value)


class SafeDict:
    """`dict` without its attributes."""

    def __call__(self, *values: Any, **named: Any) -> dict[Any, Any]:
        """As dict does."""
        return dict(*values, **named)

    def fromkeys(self, *values: Any) -> dict[Any, Any]:
        """As dict's does."""
        return dict.fromkeys(*values)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def build_template(source: str) -> Any:
    """The compiled template. Raises what jinja raises for a malformed one.

    The environment is that of transformers, with a fixed date and without random choices.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **options: json.dumps(
        value, ensure_ascii=ensure_ascii, **options
    )
    environment.filters.pop("random")
    environment.globals.pop("lipsum")
    environment.globals.update(
        raise_exception=_refuse,
        namespace=SafeNamespace,
        dict=SafeDict(),
        strftime_now=TODAY.strftime,
    )
    return environment.from_string(source)


def plain_messages(messages: Messages) -> Messages:
    """Messages as transformers gives them to a template: no null, and one name for reasoning."""
    plain = []
    for message in messages:
        kept = {key: value for key, value in message.items() if value is not None}
        reasoning = reasoning_of(kept)
        if reasoning is not None:
            kept = {"thinking": reasoning, **kept, "reasoning_content": reasoning}
        plain.append(kept)
    return plain


def reasoning_of(message: dict[str, Any]) -> Any:
    """A message's reasoning under any of its names, or None."""
    return next((message[name] for name in _REASONING if message.get(name) is not None), None)


def unmarked(text: str) -> str:
    """The text without marks."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def marked_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and what lay between them. ChatError if they are nested or cut."""
    marks = [found.start() for found in re.finditer(f"[{OPEN}{CLOSE}]", text)]
    if "".join(text[at] for at in marks) != (OPEN + CLOSE) * (len(marks) // 2):
        raise ChatError("the chat template's generation blocks are nested or cut")
    places = [at - k for k, at in enumerate(marks)]
    return unmarked(text), list(zip(places[::2], places[1::2], strict=True))


class Template:
    """A template with its variables: bos_token, eos_token and others."""

    def __init__(self, source: str, variables: dict[str, str]) -> None:
        self._compiled, self._variables = build_template(source), variables
        self.marks = getattr(self._compiled.environment, "has_generation", False)

    def render(self, messages: Messages, tools: list[Any] | None, *, prompt: bool = False) -> str:
        """The text of a chat, with marks of generation blocks. ChatError: refused or too long.

        prompt  whether the generation prompt follows
        """
        values = {"messages": messages, "tools": tools, "documents": None}
        try:
            parts = self._compiled.generate(
                **{**values, "add_generation_prompt": prompt, **self._variables}
            )
            text = "".join(parts)
        except (MemoryError, OverflowError):
            raise ChatError("the chat template needs too much memory") from None
        except Exception as error:  # jinja's errors, and what a template's expressions raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ChatError(f"the chat template refuses it: {reason}") from None
        if len(text) > MAXIMUM_TEXT:
            raise ChatError("the chat template makes more than 16 million characters of it")
        return text

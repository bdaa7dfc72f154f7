# SPDX-License-Identifier: Apache-2.0
"""A program that renders chats with a model's own template. `chat.ChatRenderer` starts it.

A template is a stranger's program. Jinja's sandbox keeps it from Python's objects. The limits of
its process keep it from using all memory or time, and from writing files (bounded_program).

It begins with {template, variables}. Requests are {messages, tools, mode}, answered by
{text, spans}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from os.path import commonprefix
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

LIMITS = (3, 1 << 30)
"""Seconds of CPU time for a short chat, and bytes of memory."""
MAXIMUM_TEXT = 16 << 20
OPEN, CLOSE = "\udc00", "\udc01"
"""Marks around what the assistant wrote: halves of surrogate pairs, which no record may hold."""

Messages = list[dict[str, Any]]
Render = Callable[..., str]


class ChatError(ValueError):
    """The template refuses a chat, or does not show where the assistant's turns are."""


class Generation(Extension):
    """The block {% generation %}, with which a template marks the assistant's turns itself."""

    tags = {"generation"}  # noqa: RUF012  # the way jinja declares them
    used = False

    def parse(self, parser: Any) -> Any:
        """The block as a call of `_marked`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        Generation.used = True
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


class SafeNamespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, which leave the sandbox."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError("a template may not set names that begin with an underscore")
        super().__setitem__(name, value)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def build_template(source: str) -> Any:
    """The compiled template. Raises what jinja raises for a malformed one.

    The environment is that of transformers, without the date and without random choices: data must
    be the same on every machine and day.
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
        raise_exception=_refuse, namespace=SafeNamespace, dict=lambda *a, **k: dict(*a, **k)
    )
    return environment.from_string(source)


def assistant_spans(render: Render, messages: Messages, full: str) -> list[tuple[int, int]]:
    """Where in `full` each turn of the assistant is: behind the prompt that a model gets for it.

    A turn is the difference of two renderings: of the messages before it with the generation
    prompt, and of the messages up to it. Both must be beginnings of `full`. Where a template writes
    earlier turns in another way, marks around the message's content are rendered. Raises ChatError.
    """
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            place = (render, messages, number, full)
            found = _by_beginnings(*place) or _by_marks(*place)
            if found is None or (spans and found[0] < spans[-1][1]):
                turn = f"message {number + 1}, the assistant's,"
                raise ChatError(f"the chat template does not show where {turn} begins")
            spans.append(found)
    return spans


def _attempt(render: Render, messages: Messages, **options: Any) -> str | None:
    """The text, or None where the template refuses a part of a chat."""
    try:
        return render(messages, **options)
    except ChatError:
        return None


def _by_beginnings(
    render: Render, messages: Messages, number: int, full: str
) -> tuple[int, int] | None:
    head = _attempt(render, messages[:number], add_generation_prompt=True)
    upto = full if number == len(messages) - 1 else _attempt(render, messages[: number + 1])
    if head is None or upto is None or len(upto) <= len(head):
        return None
    is_beginning = full.startswith(head) and full.startswith(upto)
    return (len(head), len(upto)) if is_beginning else None


def _by_marks(render: Render, messages: Messages, number: int, full: str) -> tuple[int, int] | None:
    content = messages[number].get("content")
    if not isinstance(content, str):
        return None
    for inside in (content, content.strip()):
        marked = {**messages[number], "content": f"{OPEN}{inside}{CLOSE}"}
        text = _attempt(render, [*messages[:number], marked, *messages[number + 1 :]]) or ""
        if (text.count(OPEN), text.count(CLOSE)) != (1, 1) or _unmarked(text) != full:
            continue
        start, end = text.index(OPEN), text.index(CLOSE) - 1
        closing = (_attempt(render, [*messages[:number], marked]) or "").partition(CLOSE)[2]
        return start, end + len(commonprefix([closing, full[end:]]))  # noqa: RUF071
    return None


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def marked_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and what lay between them. ChatError if they are nested or cut."""
    marks, parts = re.findall(f"[{OPEN}{CLOSE}]", text), re.split(f"[{OPEN}{CLOSE}]", text)
    if marks != [OPEN, CLOSE] * (len(marks) // 2):
        raise ChatError("the chat template's generation blocks are nested or cut")
    ends = list(accumulate(map(len, parts)))
    return "".join(parts), list(zip(ends[::2], ends[1::2], strict=False))


class Renderer:
    """A template with its variables (bos_token, eos_token)."""

    def __init__(self, source: str, variables: dict[str, str]) -> None:
        self.template, self.variables = build_template(source), variables
        self.marks = Generation.used

    def render(self, messages: Messages, tools: list[Any] | None, **options: bool) -> str:
        """The text of a chat, with marks of generation blocks. ChatError: refused or too long."""
        values = {"messages": messages, "tools": tools, "add_generation_prompt": False, **options}
        try:
            text = "".join(self.template.generate(**self.variables, **values))
        except (MemoryError, OverflowError):
            raise ChatError("the chat template needs too much memory") from None
        except Exception as error:  # jinja's errors, and what a template's expressions raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ChatError(f"the chat template refuses it: {reason}") from None
        if len(text) > MAXIMUM_TEXT:
            raise ChatError("the chat template makes more than 16 million characters of it")
        return text

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The text and its spans that count: none ("prompt"), "all", or the "assistant"'s turns."""
        messages, tools, mode = request["messages"], request["tools"], request["mode"]
        if mode == "prompt":
            text = _unmarked(self.render(messages, tools, add_generation_prompt=True))
            return {"text": text, "spans": []}
        text, spans = marked_spans(self.render(messages, tools))
        if mode == "all":
            return {"text": text, "spans": [(0, len(text))]}
        if not self.marks:
            found = assistant_spans(partial(self.render, tools=tools), messages, text)
            spans = [self._without_rest(text, span) for span in found]
        if not spans:
            raise ChatError("the chat template marks no turn of the assistant")
        return {"text": text, "spans": spans}

    def _without_rest(self, text: str, span: tuple[int, int]) -> tuple[int, int]:
        """Without white space behind the end-of-text token: the model stops before it."""
        turn = text[slice(*span)].rstrip()
        end = self.variables.get("eos_token")
        return (span[0], span[0] + len(turn)) if end and turn.endswith(end) else span


def open_program(begin: dict[str, Any]) -> Renderer:
    """The renderer of {template, variables}. Raises ChatError for a malformed template."""
    try:
        return Renderer(begin["template"], begin["variables"])
    except Exception as error:  # TemplateSyntaxError, or what compiling a strange one raises
        reason = " ".join(str(error).split())[:200]
        raise ChatError(f"the chat template is malformed: {reason}") from None

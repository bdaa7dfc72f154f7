# SPDX-License-Identifier: Apache-2.0
"""A program that renders chats with a model's own template, run by `chat.ChatRenderer` in a process
of its own.

A template is a stranger's program. Jinja's sandbox keeps it from Python's objects; the limits of
this process keep it from using all of the memory or time, and from writing files. Imports nothing
of gsqc, so that it starts quickly.

stdin and stdout hold a JSON object per line: first {template, variables}, answered by {}; then
{messages, tools, mode} each, answered by {text, spans} or {error}. The spans are character ranges
of the text that the assistant wrote.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

CPU_SECONDS = 3
"""For one chat."""
MEMORY_BYTES = 1 << 30
MAXIMUM_TEXT = 16 << 20
OPEN, CLOSE = "\udc00", "\udc01"
"""Marks around what the assistant wrote: halves of surrogate pairs, which no data has (records are
checked).
"""

Messages = list[dict[str, Any]]
Render = Callable[..., str]


class ChatError(Exception):
    """The template refuses a chat, or does not show where the assistant's turns are."""


def build_template(source: str) -> tuple[Any, bool]:
    """The compiled template, and whether it marks the assistant's turns itself with {% generation
    %}.

    The environment is that of transformers, without the date and without random choices: data must
    be the same on every machine and day.
    """
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  # the way jinja declares them
        used = False

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            Generation.used = True
            return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

        def marked(self, caller: Callable[[], str]) -> str:
            return f"{OPEN}{caller()}{CLOSE}"

    class SafeNamespace(Namespace):
        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise SecurityError("a template may not set names that begin with an underscore")
            super().__setitem__(name, value)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **options: json.dumps(
        value, ensure_ascii=ensure_ascii, **options
    )
    environment.filters.pop("random")
    environment.globals.pop("lipsum")
    environment.globals |= {
        "raise_exception": refuse,
        "namespace": SafeNamespace,
        "dict": lambda *a, **k: dict(*a, **k),
    }
    return environment.from_string(source), Generation.used


def assistant_spans(render: Render, messages: Messages, full: str) -> list[tuple[int, int]]:
    """Where in `full` each turn of the assistant is: what follows the prompt that a model would be
    given for it.

    A turn is found as the difference of two renderings: of the messages before it with the
    generation prompt, and of the messages up to it. Both must be beginnings of `full`. Where a
    template writes earlier turns in another way, marks around the message's content are rendered.
    Raises ChatError.
    """
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            found = _by_beginnings(render, messages, number, full) or _by_marks(
                render, messages, number, full
            )
            if found is None or (spans and found[0] < spans[-1][1]):
                raise ChatError(
                    f"the chat template does not show where message {number + 1}, the assistant's, begins"
                )
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
    if (
        head is None
        or upto is None
        or not (full.startswith(head) and full.startswith(upto))
        or len(upto) <= len(head)
    ):
        return None
    return len(head), len(upto)


def _by_marks(render: Render, messages: Messages, number: int, full: str) -> tuple[int, int] | None:
    content = messages[number].get("content")
    if not isinstance(content, str):
        return None
    for inside in (content, content.strip()):
        marked = {**messages[number], "content": f"{OPEN}{inside}{CLOSE}"}
        text = _attempt(render, [*messages[:number], marked, *messages[number + 1 :]])
        if (
            text is None
            or text.count(OPEN) != 1
            or text.count(CLOSE) != 1
            or _unmarked(text) != full
        ):
            continue
        start, end = text.index(OPEN), text.index(CLOSE) - 1
        last = _attempt(render, [*messages[:number], marked]) or ""
        closing = last.partition(CLOSE)[2]
        return start, end + _common_beginning(closing, full[end:])
    return None


def _common_beginning(a: str, b: str) -> int:
    return next(
        (k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def marked_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and what lies between them. Raises ChatError where they are nested or
    cut.
    """
    marks, parts = re.findall(f"[{OPEN}{CLOSE}]", text), re.split(f"[{OPEN}{CLOSE}]", text)
    if marks != [OPEN, CLOSE] * (len(marks) // 2):
        raise ChatError("the chat template's generation blocks are nested or cut")
    ends = list(accumulate(map(len, parts)))
    return "".join(parts), list(zip(ends[::2], ends[1::2], strict=False))


class Renderer:
    """A template with its variables (bos_token, eos_token)."""

    def __init__(self, source: str, variables: dict[str, str]) -> None:
        self.template, self.marks = build_template(source)
        self.variables = variables

    def render(
        self,
        messages: Messages,
        tools: list[Any] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The text of a chat, with the marks of generation blocks. Raises ChatError: refused, or
        too long.
        """
        values = {
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            text = "".join(self.template.generate(**self.variables, **values))
        except (MemoryError, OverflowError):
            raise ChatError("the chat template needs too much memory") from None
        except Exception as error:  # jinja's errors, and what a template's expressions raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ChatError(f"the chat template refuses it: {reason}") from None
        if len(text) > MAXIMUM_TEXT:
            raise ChatError(
                "the chat template makes a text of more than 16 million characters of it"
            )
        return text

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{text, spans}. The mode is "prompt" (to generate from), "all" (all counts) or
        "assistant".
        """
        messages, tools, mode = request["messages"], request["tools"], request["mode"]
        if mode == "prompt":
            return {
                "text": _unmarked(self.render(messages, tools, add_generation_prompt=True)),
                "spans": [],
            }
        text, spans = marked_spans(self.render(messages, tools))
        if mode == "all":
            return {"text": text, "spans": [(0, len(text))]}
        if not self.marks:

            def render(part: Messages, **options: Any) -> str:
                return self.render(part, tools, **options)

            spans = [
                self._without_rest(text, span) for span in assistant_spans(render, messages, text)
            ]
        if not spans:
            raise ChatError("the chat template marks no turn of the assistant")
        return {"text": text, "spans": spans}

    def _without_rest(self, text: str, span: tuple[int, int]) -> tuple[int, int]:
        """Without white space behind the end-of-text token: the model stops there and never writes
        it.
        """
        turn = text[slice(*span)].rstrip()
        end = self.variables.get("eos_token")
        return (span[0], span[0] + len(turn)) if end and turn.endswith(end) else span


def _limit_process() -> None:
    """No file can be written, and a limit of memory. Platforms without the module have no limits."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _limit_time() -> None:
    """The process is ended CPU_SECONDS from now."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(
            resource.RLIMIT_CPU, (math.ceil(time.process_time()) + CPU_SECONDS, hard)
        )


def main() -> None:
    """Serve until stdin ends."""
    begin = json.loads(sys.stdin.readline())
    try:
        _limit_process()
        _limit_time()
        renderer = Renderer(begin["template"], begin["variables"])
    except ImportError as error:
        return _say({"missing": error.name})
    except (
        Exception
    ) as error:  # TemplateSyntaxError, or what the compilation of a strange one raises
        return _say(
            {"error": f"the chat template is malformed: {' '.join(str(error).split())[:200]}"}
        )
    _say({})
    for line in sys.stdin:
        _limit_time()
        try:
            _say(renderer.answer(json.loads(line)))
        except ChatError as error:
            _say({"error": str(error)})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

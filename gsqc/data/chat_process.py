# SPDX-License-Identifier: Apache-2.0
"""A program that renders chats with a model's own template. `chat.ChatRenderer` starts it.

A template is a stranger's program. Jinja's sandbox keeps it from Python's objects. The limits of
its process keep it from using all memory or time, and from writing files (bounded_program).

It begins with {templates, variables, controls, ends}. Requests are {messages, tools, learned,
mode}, answered by {text, spans}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gsqc.data.chat_parts import dropped_parts
from gsqc.data.chat_spans import Span, assistant_spans
from gsqc.data.chat_template import (
    ChatError,
    Messages,
    Template,
    marked_spans,
    plain_messages,
)

LIMITS = (3, 1 << 30)
"""Seconds of CPU time for a short chat, and bytes of memory."""


class Renderer:
    """Templates by name with their variables.

    controls  texts of control tokens. White space behind one of them is no part of a turn.
    ends      those that end generation. Nothing behind the first of them is a part of a turn.
    """

    def __init__(
        self,
        templates: dict[str, str],
        variables: dict[str, str],
        controls: list[str],
        ends: list[str],
    ) -> None:
        self._templates = {n: Template(source, variables) for n, source in templates.items()}
        self._controls, self._ends = tuple(controls), ends

    def _template(self, tools: list[Any] | None) -> Template:
        """The template that transformers takes: tool_use if there are tools, else default."""
        for name in ("tool_use", "default") if tools is not None else ("default",):
            if name in self._templates:
                return self._templates[name]
        names = ", ".join(sorted(self._templates))
        raise ChatError(f"the model has no chat template named default, but {names}")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The text and its spans that count: none ("prompt"), "all", or the "assistant"'s turns.

        ChatError if the template refuses the chat, drops a part of it or does not show its turns.
        """
        messages, tools = plain_messages(request["messages"]), request["tools"]
        mode, flags = request["mode"], request["learned"]
        template = self._template(tools)
        render = partial(template.render, prompt=mode == "prompt")
        text, blocks = marked_spans(render(messages, tools))
        turns = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
        learned = [k for k in turns if flags is None or flags[k]]
        dropped = dropped_parts(render, messages, tools, text, learned)
        if dropped:
            raise ChatError(dropped)
        if mode == "prompt":
            return {"text": text, "spans": []}
        if not learned:
            raise ChatError("no turn of the assistant has a loss")
        wanted = learned if mode == "assistant" else [k for k in turns if k not in learned]
        if template.marks:
            spans = _of_turns(blocks, turns, wanted)
        else:
            spans = self._found(template, messages, tools, text, wanted)
        if mode == "all":
            spans = _rest(spans, len(text))
        if not spans:
            raise ChatError("the chat template marks no turn of the assistant")
        return {"text": text, "spans": spans}

    def _found(
        self,
        template: Template,
        messages: Messages,
        tools: list[Any] | None,
        text: str,
        wanted: list[int],
    ) -> list[Span]:
        def render(part: Messages, *, prompt: bool = False) -> str:
            return template.render(part, tools, prompt=prompt)

        found = assistant_spans(render, messages, text, wanted, self._ends)
        return [self._without_rest(text, span) for span in found.values()]

    def _without_rest(self, text: str, span: Span) -> Span:
        """Without what the model never writes, for it has stopped before."""
        turn = text[slice(*span)].rstrip()
        kept = len(turn) if turn.endswith(self._controls) else span[1] - span[0]
        while end := next((end for end in self._ends if turn.endswith(end)), ""):
            kept = len(turn)
            turn = turn[: kept - len(end)].rstrip()
        return span[0], span[0] + kept


def _of_turns(blocks: list[Span], turns: list[int], wanted: list[int]) -> list[Span]:
    """The generation blocks of the wanted turns. ChatError if it cannot be told which they are."""
    if wanted == turns:
        return blocks
    if wanted and len(blocks) != len(turns):
        raise ChatError(
            f"the chat template marks {len(blocks)} parts of {len(turns)} turns of the assistant, "
            "so it cannot be told which of them have no loss"
        )
    return [block for turn, block in zip(turns, blocks, strict=False) if turn in wanted]


def _rest(spans: list[Span], length: int) -> list[Span]:
    """What is left of a text without the spans."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def open_program(begin: dict[str, Any]) -> Renderer:
    """The renderer that `begin` describes. ChatError for a malformed template."""
    try:
        return Renderer(**begin)
    except Exception as error:  # TemplateSyntaxError, or what compiling a strange one raises
        reason = " ".join(str(error).split())[:200]
        raise ChatError(f"the chat template is malformed: {reason}") from None

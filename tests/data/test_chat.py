# SPDX-License-Identifier: Apache-2.0
"""Chats by models' own templates: transformers' text, the assistant's turns, and their limits."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from gsqc.data.chat import MAXIMUM_TEMPLATE, ChatRenderer
from gsqc.data.examples import Chat
from gsqc.errors import DataError
from tests.data import templates

VARIABLES = {"bos_token": "<s>", "eos_token": "<|im_end|>"}


def chat(*turns: str, system: str | None = None) -> Chat:
    """Turns of user and assistant in turn."""
    messages = [
        {"role": ("user", "assistant")[k % 2], "content": turn} for k, turn in enumerate(turns)
    ]
    return Chat([{"role": "system", "content": system}, *messages] if system else messages)


TWO_TURNS = chat("Hi", "Hello\nyou", "Bye?", "Bye!")


def counted(template: str, given: Chat, **options: Any) -> list[str]:
    """The parts of the rendered text that count."""
    with ChatRenderer(template, VARIABLES) as renderer:
        rendered = renderer.render(given, mask_prompt=options.pop("mask_prompt", True))
    return [rendered.text[a:b] for a, b in rendered.spans]


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        (templates.CHATML, ["Hello\nyou<|im_end|>", "Bye!<|im_end|>"]),
        (templates.GENERATION, ["Hello\nyou<|im_end|>", "Bye!<|im_end|>"]),
        (templates.LLAMA3, ["Hello\nyou<|eot_id|>", "Bye!<|eot_id|>"]),
        (templates.THINKING, ["Hello\nyou<|im_end|>", "<think>\n\n</think>\n\nBye!<|im_end|>"]),
        (templates.ALTERNATING, [" Hello\nyou<|im_end|>", " Bye!<|im_end|>"]),
    ],
)
def test_the_assistants_turns_and_their_ends_count(template: str, parts: list[str]) -> None:
    assert counted(template, TWO_TURNS) == parts


@pytest.mark.parametrize(
    "template",
    [
        templates.CHATML,
        templates.GENERATION,
        templates.LLAMA3,
        templates.THINKING,
        templates.ALTERNATING,
    ],
)
@pytest.mark.parametrize(
    "given", [TWO_TURNS, chat("a", " b "), chat("ä🙂", "{{ 1 }}", "</s>", "<|im_end|>")]
)
def test_the_text_is_that_of_transformers(
    template: str, given: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    compiled = utils._compile_jinja_template(template)
    today = datetime(2024, 7, 26).strftime  # data must not change by day
    monkeypatch.setitem(compiled.environment.globals, "strftime_now", today)
    values = {"messages": given.messages, "tools": None, "documents": None, **VARIABLES}
    with ChatRenderer(template, VARIABLES) as renderer:
        assert renderer.render(given, mask_prompt=False).text == compiled.render(
            add_generation_prompt=False, **values
        )
        prompt = Chat(given.messages[:1])
        values["messages"] = prompt.messages
        assert renderer.prompt(prompt) == compiled.render(add_generation_prompt=True, **values)


def test_the_spans_of_generation_blocks_are_those_of_transformers() -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    (text,), (spans,) = utils.render_jinja_template(
        [TWO_TURNS.messages], chat_template=templates.GENERATION, return_assistant_tokens_mask=True
    )
    with ChatRenderer(templates.GENERATION, VARIABLES) as renderer:
        rendered = renderer.render(TWO_TURNS, mask_prompt=True)
    assert (rendered.text, rendered.spans) == (text, spans)


def test_without_a_mask_all_counts() -> None:
    (part,) = counted(templates.CHATML, TWO_TURNS, mask_prompt=False)
    assert part.startswith("<|im_start|>system\nYou help.")
    assert part.endswith("Bye!<|im_end|>\n")


def test_a_chat_that_begins_with_the_assistant_and_two_turns_in_a_row() -> None:
    given = Chat([{"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}])
    assert counted(templates.CHATML, given) == ["A<|im_end|>", "B<|im_end|>"]
    assert counted(templates.LLAMA3, given) == ["A<|eot_id|>", "B<|eot_id|>"]


def test_tools_reach_the_template() -> None:
    template = (
        "{{ tools | tojson }}{% for m in messages %}"
        "<{{ m.role }}>{{ m.content or m.tool_calls | tojson }};{% endfor %}"
    )
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"name": "add", "arguments": {"a": 1}}],
    }
    given = Chat([{"role": "user", "content": "1+1"}, call], [{"name": "add"}])
    assert counted(template, given) == ['<assistant>[{"name": "add", "arguments": {"a": 1}}];']


@pytest.mark.parametrize(
    ("template", "given", "reason"),
    [
        (templates.SWALLOWING, TWO_TURNS, "drops the content of the user, message 1 and the con"),
        (templates.REVERSED, TWO_TURNS, "does not show where message 4"),
        (templates.ALTERNATING, chat("a", "b", system="s"), "refuses it: roles must alternate"),
        ("{{ messages.nothing.at_all }}", TWO_TURNS, "refuses it"),
        ("{% generation %}" * 2 + "{% endgeneration %}" * 2, TWO_TURNS, "nested"),
        ("{% generation %}{{ 'x' * 17000000 }}{% endgeneration %}", TWO_TURNS, "16 million"),
        (
            templates.CHATML + "{% if false %}{% generation %}{% endgeneration %}{% endif %}",
            TWO_TURNS,
            "no turn of the",
        ),
    ],
)
def test_a_chat_that_a_template_refuses(template: str, given: Chat, reason: str) -> None:
    with ChatRenderer(template, VARIABLES) as renderer, pytest.raises(ValueError, match=reason):
        renderer.render(given, mask_prompt=True)


@pytest.mark.parametrize("template", templates.ESCAPES)
def test_a_template_does_not_leave_its_sandbox(template: str) -> None:
    with ChatRenderer(template, VARIABLES) as renderer:
        try:
            outcome = renderer.render(TWO_TURNS, mask_prompt=False).text
        except (ValueError, DataError) as error:
            outcome = str(error)
    # What is undefined leaves the chat out.
    assert any(reason in outcome for reason in ("drops", "refuses it", "malformed"))


@pytest.mark.parametrize("template", [templates.LARGE, templates.GROWING])
def test_a_template_does_not_take_all_memory(template: str) -> None:
    with (
        ChatRenderer(template, VARIABLES) as renderer,
        pytest.raises((ValueError, DataError)) as error,
    ):
        renderer.render(TWO_TURNS, mask_prompt=False)
    assert "memory" in str(error.value)


def test_a_template_does_not_take_all_time() -> None:
    start = time.process_time()
    with (
        ChatRenderer(templates.ENDLESS, VARIABLES) as renderer,
        pytest.raises(DataError, match="limits of time"),
    ):
        renderer.render(TWO_TURNS, mask_prompt=False)
    assert time.process_time() - start < 2  # it is the child that worked


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template"),
        ("{% for x in", "malformed"),
        ("{% generation %}", "malformed"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "malformed|limits"),
        ("x" * (MAXIMUM_TEMPLATE + 1), "too large"),
    ],
)
def test_a_template_that_is_none(template: str | None, reason: str) -> None:
    with ChatRenderer(template, VARIABLES) as renderer, pytest.raises(DataError, match=reason):
        renderer.render(TWO_TURNS, mask_prompt=True)


def test_the_same_text_every_time() -> None:
    """Neither the hash seed nor a random choice reaches a template."""
    template = "{% for m in messages %}{{ [1, 2, 3, 4, 5, 6, 7, 8] | random }}{% endfor %}"
    with ChatRenderer(template, VARIABLES) as renderer, pytest.raises(DataError, match="random"):
        renderer.render(TWO_TURNS, mask_prompt=False)
    made = set()
    for _ in range(2):
        with ChatRenderer(
            "{{ messages | tojson }}{{ strftime_now('%d %b %Y') }}", VARIABLES
        ) as renderer:
            made.add(renderer.render(TWO_TURNS, mask_prompt=False).text)
    assert made == {json.dumps(TWO_TURNS.messages) + "26 Jul 2024"}


def test_a_missing_jinja_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsqc.data.chat.find_spec", lambda name: None)
    with (
        ChatRenderer(templates.CHATML, VARIABLES) as renderer,
        pytest.raises(DataError, match="package jinja2") as error,
    ):
        renderer.prompt(TWO_TURNS)
    assert error.value.hint == "pip install 'jinja2>=3.1.6'"

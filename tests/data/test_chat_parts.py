# SPDX-License-Identifier: Apache-2.0
"""Parts of a chat that a template drops are named, and so are turns without a loss."""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.data.chat import ChatRenderer
from gsqc.data.chat_spans import assistant_spans
from gsqc.data.chat_template import Messages, Template
from gsqc.data.examples import Chat
from tests.data.public_templates import FORMS, QWEN3, R1, TOOL_USE, without_marks
from tests.data.templates import ALTERNATING, CHATML, THINKING

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


ASKED = said("user", "1+1")
WITH_CALL = [
    ASKED,
    said("assistant", "", tool_calls=[CALL]),
    said("tool", "2", tool_call_id="c1"),
    said("assistant", "It is 2"),
]
THOUGHT = said("assistant", "2", reasoning_content="I add.")
INSIDE = said("assistant", "<think>\nI add.\n</think>\n\n2")


def learned(template: Any, chat: Chat, *, mask_prompt: bool = True) -> list[str]:
    with ChatRenderer(template, VARIABLES, ["<|im_end|>"]) as renderer:
        made = renderer.render(chat, mask_prompt=mask_prompt)
    return [made.text[a:b] for a, b in made.spans]


@pytest.mark.parametrize(
    ("template", "chat", "reason"),
    [
        (CHATML, Chat(WITH_CALL), "drops the tool calls of message 2 "),
        (CHATML, Chat(WITH_CALL, TOOLS), "drops the tools and the tool calls of message 2 "),
        (CHATML, Chat([ASKED, said("assistant", "2")], TOOLS), "drops the tools "),
        (CHATML, Chat([ASKED, THOUGHT]), "drops the reasoning of message 2 "),
        (without_marks(R1), Chat([ASKED, INSIDE]), "drops the reasoning of message 2 "),
        (
            without_marks(QWEN3),
            Chat([ASKED, THOUGHT, ASKED, THOUGHT]),
            r"drops the reasoning of message 2 \(.*make each answer with reasoning the last turn",
        ),
        (
            without_marks(QWEN3),
            Chat([ASKED, INSIDE, ASKED, said("assistant", "2")]),
            r"drops the reasoning of message 2 \(.*make each answer with reasoning the last turn",
        ),
        (CHATML, Chat([ASKED, THOUGHT, ASKED, INSIDE]), r"reasoning of message 2 \([\w ]*\)$"),
        (
            "{% for m in messages if m.role != 'system' %}{{ m.role + m.content }}{% endfor %}",
            Chat([said("system", "Be brief."), ASKED, said("assistant", "2")]),
            "drops the content of the system, message 1 ",
        ),
        (
            "{% for m in messages[-2:] %}{{ m.role + m.content }}{% endfor %}",
            Chat([said("user", "a"), said("assistant", "b"), ASKED, said("assistant", "2")]),
            "drops the content of the user, message 1 .*and the content of message 2 ",
        ),
        (
            {"tool_use": TOOL_USE, "rag": "x"},
            Chat([ASKED, said("assistant", "2")]),
            "no chat template named default, but rag, tool_use",
        ),
    ],
)
def test_what_is_dropped_is_named(template: Any, chat: Chat, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        learned(template, chat)


def test_what_is_kept_is_no_matter() -> None:
    """A system message like the template's own, the last turn's reasoning, tools that are shown."""
    same = Chat([said("system", "You help."), ASKED, said("assistant", "2")])
    assert learned(CHATML, same) == ["2<|im_end|>"]
    thought = ["<think>\nI add.\n</think>\n\n2<|im_end|>"]
    for answer in (THOUGHT, INSIDE):
        assert learned(without_marks(QWEN3), Chat([ASKED, answer])) == thought
    named = without_marks({"default": CHATML, "tool_use": TOOL_USE})
    first, second = learned(named, Chat(WITH_CALL, TOOLS))
    assert first.startswith('<tool_call>\n{"name": "add"') and second == "It is 2<|im_end|>"


def test_earlier_reasoning_may_be_dropped_where_nothing_is_learned() -> None:
    chat = Chat([ASKED, THOUGHT, ASKED, THOUGHT], learned=(True, False, True, True))
    for template in (QWEN3, without_marks(QWEN3)):
        assert learned(template, chat) == ["<think>\nI add.\n</think>\n\n2<|im_end|>"]


def test_turns_without_a_loss() -> None:
    turns = [ASKED, said("assistant", "Bad"), ASKED, said("assistant", "Good")]
    chat = Chat(turns, learned=(True, False, True, True))
    assert learned(CHATML, chat) == ["Good<|im_end|>"]
    before, after = learned(CHATML, chat, mask_prompt=False)
    assert before.endswith("<|im_start|>assistant\n")
    assert after.startswith("\n<|im_start|>user\n") and "Good" in after
    with pytest.raises(ValueError, match="no turn of the assistant has a loss"):
        learned(CHATML, Chat(turns, learned=(True, False, True, False)))


@pytest.mark.parametrize("name", [*FORMS, "last in another way", "alternating"])
def test_turns_are_found_in_time_linear_in_their_number(name: str) -> None:
    """All turns at a cost of some renderings, and each where a search one by one finds it."""
    forms = {**FORMS, "last in another way": THINKING, "alternating": ALTERNATING}
    form = without_marks(forms[name])
    template = Template(form["default"] if isinstance(form, dict) else form, VARIABLES)
    made = [0]

    def render(messages: Messages, *, prompt: bool = False) -> str:
        made[0] += len(messages)
        return template.render(messages, None, prompt=prompt)

    def chat(turns: int) -> Messages:
        pairs = [(said("user", f"q{k}?"), said("assistant", f"a{k}.")) for k in range(turns)]
        return [message for pair in pairs for message in pair]

    few = chat(16)
    wanted = list(range(1, 32, 2))
    one_by_one = assistant_spans(render, few, render(few), wanted, ["</s>"])
    long, made[0] = chat(1000), 0
    text = render(long)
    spans = assistant_spans(render, long, text, list(range(1, 2000, 2)), ["</s>"])
    assert made[0] < 20 * len(long)
    assert len(spans) == 1000
    for number in wanted[:-1]:
        assert text[slice(*spans[number])] == render(few)[slice(*one_by_one[number])]
    assert all(f"a{number // 2}." in text[slice(*span)] for number, span in spans.items())

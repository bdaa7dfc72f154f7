# SPDX-License-Identifier: Apache-2.0
"""Random chats in the forms of public models: tokens and losses are those of transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from gsqc.data.encode import Encoder, Reading, chat_renderer
from gsqc.data.examples import Chat
from gsqc.data.tokenizer import Tokenizer
from tests.data.public_templates import CONTROLS, FORMS, without_marks

transformers = pytest.importorskip("transformers")

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
CAUSE = re.compile(
    r"drops the (tools|content|reasoning|tool calls)|refuses it: "
    r"|does not show where message \d+, the assistant's, begins"
)
CORPUS = [
    "Yes, it is. No\n\nHello there ### user:\nassistant: ",
    "\n\n.\n\n?\n a b c the is to",
] * 9
WORDS = st.sampled_from(["Yes", "no.", "Hello", "the", "ä🙂", "1+1", "it's", "</think", "{{ x }}"])
GAPS = st.sampled_from([" ", "\n", "\n\n", "  "])


@cache
def library() -> Library:
    """Byte-level BPE with merges over spaces and ends of lines, which all templates' tokens cut."""
    made = Library(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(CONTROLS),
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


@cache
def theirs() -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=library(), **NAMED)


@cache
def ours(name: str, marked: bool) -> Encoder:
    """An encoder whose model has one form of template, with or without {% generation %}."""
    form = FORMS[name] if marked else without_marks(FORMS[name])
    named = (
        [{"name": n, "template": t} for n, t in form.items()] if isinstance(form, dict) else form
    )
    ends = [library().token_to_id(text) for text in ("</s>", "<|end|>", "<|im_end|>")]
    model = {"eos_token_id": ends, "special_tokens": NAMED, "chat_template": named}
    tokenizer = Tokenizer.of_model(library().to_str(), model)
    return Encoder(tokenizer, chat_renderer(tokenizer), Reading(1 << 20))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Some words with gaps between them, and sometimes around them."""
    words = draw(st.lists(WORDS, min_size=1, max_size=4))
    text = "".join(w + (draw(GAPS) if k < len(words) - 1 else "") for k, w in enumerate(words))
    edge = st.sampled_from(["", "", "", " ", "\n"])
    return draw(edge) + text + draw(edge)


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    """Turns in turn, with a system message, reasoning, or a tool call and its result."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(texts())})
    thinks, calls = draw(st.sampled_from([(False, False)] * 3 + [(True, False), (False, True)]))
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(texts())})
        if calls:
            call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
            empty = draw(st.sampled_from([None, ""]))
            messages.append({"role": "assistant", "content": empty, "tool_calls": [call]})
            messages.append({"role": "tool", "name": "add", "content": draw(texts())})
        answer: dict[str, Any] = {"role": "assistant", "content": draw(texts())}
        kind = draw(st.sampled_from(["", "key", "inside"])) if thinks else ""
        if kind == "key":
            answer["reasoning_content"] = "I think."
        if kind == "inside":
            answer["content"] = f"<think>\nI think.\n</think>\n\n{answer['content']}"
        messages.append(answer)
    return Chat(messages, [{"type": "function", "function": {"name": "add"}}] if calls else None)


def expected(name: str, chat: Chat) -> tuple[list[int], list[int]] | None:
    """transformers' tokens and mask. None if its template refuses the chat."""
    form = FORMS[name]
    theirs().chat_template = form
    for template in form.values() if isinstance(form, dict) else [form]:
        compiled = transformers.utils.chat_template_utils._compile_jinja_template(template)
        compiled.environment.globals["strftime_now"] = datetime(2024, 7, 26).strftime
    try:
        made = theirs().apply_chat_template(
            chat.messages, chat.tools, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception:  # jinja's errors, and those of a template's expressions
        return None
    return made["input_ids"], made["assistant_masks"]


def made(name: str, chat: Chat, *, marked: bool) -> tuple[list[int], list[int]] | str:
    """Our tokens and mask, or why the chat is refused."""
    encoder = ours(name, marked)
    try:
        (found,) = encoder.encode([encoder.prepare(chat)])
    except ValueError as error:
        return str(error)
    return np.frombuffer(found.ids, np.int32).tolist(), list(found.counted)


def check(name: str, chat: Chat) -> Iterator[str]:
    """Compare one chat in one form, with and without marks. Gives why it was refused."""
    right = expected(name, chat)
    for marked in (True, False):
        found = made(name, chat, marked=marked)
        if isinstance(found, str):
            assert CAUSE.search(found), found
            yield found
        else:
            assert right is not None, "transformers refuses it"
            assert found == right


@pytest.mark.parametrize("name", FORMS)
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(chat=chats())
def test_tokens_and_losses_are_those_of_transformers(name: str, chat: Chat) -> None:
    for refused in check(name, chat):
        event(refused[:60])


SIMPLE = Chat(
    [
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "the is?"},
        {"role": "assistant", "content": "No.\n\nHello there."},
    ]
)


@pytest.mark.parametrize("name", FORMS)
def test_a_simple_chat_is_refused_by_none(name: str) -> None:
    """So the test above compares something. A one-word answer has a loss on all its tokens."""
    assert list(check(name, SIMPLE)) == []
    tokens, counted = made(name, SIMPLE, marked=False)
    learned = theirs().decode([t for t, c in zip(tokens, counted, strict=True) if c])
    assert re.match(r"\s?Yes", learned), learned

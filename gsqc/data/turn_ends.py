# SPDX-License-Identifier: Apache-2.0
"""The tokens with which a chat template ends the assistant's turns."""

from __future__ import annotations

from typing import Any

from gsqc.data.encode import chat_renderer
from gsqc.data.examples import Chat
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import GsqcError

_SAID = ("First question.", "First answer.", "Second question.", "Second answer.")


def turn_ends(tokenizer_json: str, metadata: dict[str, Any]) -> list[int]:
    """The control tokens that follow an answer in a chat by the model's template.

    A model that has learned such chats writes one of them after its answer, be it the end of text
    or not. [] if the model has no template, or one that cannot be used.

    metadata  as for `Tokenizer.of_model`
    """
    if metadata.get("chat_template") is None:
        return []
    roles = ("user", "assistant", "user", "assistant")
    turns = [{"role": r, "content": text} for r, text in zip(roles, _SAID, strict=True)]
    try:
        tokenizer = Tokenizer.of_model(tokenizer_json, metadata)
        with chat_renderer(tokenizer) as renderer:
            text = renderer.render(Chat(turns), mask_prompt=False).text
    except (GsqcError, ValueError):  # using the bundle for chats will say so
        return []
    ends = []
    longest_first = sorted(tokenizer.control_tokens().items(), key=lambda item: -len(item[0]))
    for answer in _SAID[1::2]:
        rest = text.partition(answer)[2].lstrip()
        ends += [k for token, k in longest_first if token and rest.startswith(token)][:1]
    return list(dict.fromkeys(ends))

# SPDX-License-Identifier: Apache-2.0
"""DataForm: in which form a run's data gave its prompts. A later prompt has to have the same form.

chat      the model's chat template, with the system text and the tools that all chats share
alpaca    Alpaca's prompt, and the text that ends a prompt
prompt    the prompt, and the text that ends a prompt
document  the text as it is
label     the text as it is, with a label

A run records it in config.json. It decides no bits: `data_sha256` fixes the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gsqc.data.examples import Chat, Example, Prompted, alpaca_prompt
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.limits import MAXIMUM_COUNT
from gsqc.values import is_text, is_whole

DATA_FORMS = ("chat", "alpaca", "prompt", "document", "label")
SETTING = "data_form"
"""The name in config.json."""
MOST_SHARED = 1 << 16
"""Characters of a system text, or of tools as JSON, that a run records. Longer ones are left out,
as if the chats did not share them."""


@dataclass
class SharedParts:
    """Collects the system text and the tools of chats, as far as all of them have the same."""

    system: str | None = None
    tools: list[Any] | None = None
    _is_empty: bool = True

    @classmethod
    def of(cls, said: Any) -> SharedParts:
        """The parts whose `asdict` a file holds. ValueError if they cannot be that."""
        made = cls(said["system"], said["tools"], said["_is_empty"])
        if not isinstance(made.system, str | None) or not isinstance(made.tools, list | None):
            raise ValueError("the shared parts of chats are of other types")
        return made

    def add(self, example: Example) -> None:
        """Take one more record into account."""
        if not isinstance(example, Chat):
            return
        first = example.messages[0]
        text = first.get("content") if first["role"] == "system" else None
        system = text if isinstance(text, str) else None
        if self._is_empty:
            self.system, self.tools, self._is_empty = system, example.tools, False
        self._keep(system, example.tools)

    def take(self, part: SharedParts) -> None:
        """Take the records that another one has seen into account."""
        if part._is_empty:
            return
        if self._is_empty:
            self.system, self.tools, self._is_empty = part.system, part.tools, False
        self._keep(part.system, part.tools)

    def _keep(self, system: str | None, tools: list[Any] | None) -> None:
        """What both have."""
        self.system = system if system == self.system else None
        self.tools = tools if tools == self.tools else None


@dataclass(frozen=True)
class DataForm:
    """The form of a run's data.

    records     how many records there are of each of DATA_FORMS, of one at least
    system      the system text, if all chats have the same
    tools       the tools, if all chats have the same
    prompt_end  what stands between a prompt and its completion
    """

    records: Mapping[str, int] = field(default_factory=dict)
    system: str | None = None
    tools: list[Any] | None = None
    prompt_end: str = DEFAULT_END

    @property
    def form(self) -> str:
        """The form of most records, of several the first of DATA_FORMS."""
        return max(DATA_FORMS, key=lambda form: self.records.get(form, 0))

    @property
    def is_mixed(self) -> bool:
        """Whether records have several forms."""
        return len(self.records) > 1

    def setting(self) -> dict[str, Any]:
        """What config.json holds of it, beside `prompt_end`."""
        shared = {"system": self.system, "tools": self.tools}
        kept = {k: v if len(json.dumps(v)) <= MOST_SHARED else None for k, v in shared.items()}
        return {SETTING: {"records": dict(self.records), **kept}}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> DataForm | None:
        """The form that a run recorded. None if there is none, or if it makes no sense.

        The file may be a stranger's, so every field is checked.
        """
        said, end = config.get(SETTING), config.get("prompt_end", DEFAULT_END)
        records = said.get("records") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(records, dict) or not is_text(end):
            return None
        known = {form: records[form] for form in DATA_FORMS if form in records}
        if not known or known != records or not all(_is_count(n) for n in known.values()):
            return None
        system, tools = said.get("system"), said.get("tools")
        system = system if is_text(system) else None
        return cls(known, system, tools if isinstance(tools, list) else None, end)


def _is_count(value: Any) -> bool:
    return is_whole(value, 1, MAXIMUM_COUNT)


def in_form(example: Example, form: str, system: str | None, tools: list[Any] | None) -> Example:
    """A bare prompt with its completion in another form, chat or alpaca.

    A record that has a form of its own stays as it is.
    """
    if not isinstance(example, Prompted) or example.form != "prompt":
        return example
    if form == "alpaca":
        return Prompted(alpaca_prompt(example.prompt), example.completion, form)
    if form == "chat":
        answer = {"role": "assistant", "content": example.completion}
        return Chat([*chat_messages(example.prompt, system), answer], tools)
    return example


def chat_messages(prompt: str, system: str | None) -> list[dict[str, Any]]:
    """The messages that the assistant's answer follows."""
    before = [{"role": "system", "content": system}] if system is not None else []
    return [*before, {"role": "user", "content": prompt}]

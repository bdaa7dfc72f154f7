# SPDX-License-Identifier: Apache-2.0
"""The form of a run's prompts, for other programs: a chat template, and a page that explains it.

A run on chats keeps the model's own template. A run on prompts, or on Alpaca's records, gets one
that makes of a user's turn what training put before an answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.data.examples import alpaca_prompt
from gsqc.data.form import DataForm
from gsqc.data.prompt import PromptForm, PromptOptions, choose_form
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import BundleError, ExportError
from gsqc.export.place import new_file
from gsqc.files.writing import write_new

TEMPLATE_FILE, PAGE = "chat_template.jinja", "README.md"
_PLACE = "\udc00"
"""Half of a surrogate pair, which no text holds. The turn stands in its place."""
_REFUSES = "the model was trained on turns of user and assistant alone"


@dataclass(frozen=True)
class TrainedPrompts:
    """How prompts have to be put to what was trained.

    form      their form
    template  the chat template that makes it, or None: the model's own stays
    own       the model's own template, or None
    told      this in a sentence
    is_known  whether the run or the user says the form
    labels    those that a classifier gives texts, which are no prompts
    """

    form: PromptForm
    template: str | None
    own: str | None
    told: str
    is_known: bool
    labels: tuple[str, ...] = ()

    @property
    def shown_template(self) -> str | None:
        """The chat template that other programs should use, or None if there is none."""
        return self.template or self.own


def trained_prompts(
    bundle: Bundle, asked: PromptOptions, recorded: DataForm | None
) -> TrainedPrompts:
    """The prompts of a run, whose recorded form is `recorded`. Raises OptionError, BundleError."""
    form = choose_form(asked, recorded, of_run=True)
    if (labels := bundle.manifest.model.labels) is not None:
        return TrainedPrompts(form, None, None, f"labels: {', '.join(labels)}", True, labels)
    is_known = recorded is not None or asked.wanted is not None
    try:
        tokenizer = Tokenizer(bundle)
    except BundleError:  # a model without a tokenizer is exported too, and has no text
        return TrainedPrompts(form, None, None, "the bundle has no tokenizer", is_known)
    template = chat_template(form, tokenizer) if is_known else None
    own = _own(tokenizer, with_tools=form.tools is not None)
    if not is_known:
        told = "the model's own stays, for the run has no recorded form; --form overrides"
    elif template is None:
        told = "the model's own stays" if own else "the model has none"
        told += f": a {form.told}"
    else:
        told = f"it makes a {form.told}"
    return TrainedPrompts(form, template, own, f"chat template: {told}", is_known)


def _own(tokenizer: Tokenizer, *, with_tools: bool) -> str | None:
    """The model's own template. Of several named ones, that of chats like the run's."""
    own = tokenizer.chat_template
    if not isinstance(own, dict):
        return own
    return (own.get("tool_use") if with_tools else None) or own.get("default")


def chat_template(form: PromptForm, tokenizer: Tokenizer) -> str | None:
    """A chat template whose text is that of training. None for the forms chat and text.

    A user's turn is the prompt with its end. An assistant's turn is the completion with the end of
    text. What stands at the beginning of a text (BOS) is written too.
    """
    if form.form not in ("alpaca", "prompt"):
        return None
    whole = alpaca_prompt(_PLACE, form.input or "") if form.form == "alpaca" else _PLACE
    before, after = (whole + form.prompt_end).split(_PLACE)
    beginning = tokenizer.decode(tokenizer.beginning, special=True)
    end = tokenizer.template_variables.get("eos_token", "")
    user = " + ".join(filter(None, [_text(before), "message['content']", _text(after)]))
    answer = " + ".join(filter(None, ["message['content']", _text(end)]))
    # A prompt that is empty has no end either.
    return (
        f"{f'{{{{- {_text(beginning)} }}}}' if beginning else ''}"
        "{%- for message in messages %}"
        f"{{%- if message['role'] == 'user' %}}{{%- if message['content'] %}}{{{{- {user} }}}}"
        "{%- endif %}"
        f"{{%- elif message['role'] == 'assistant' %}}{{{{- {answer} }}}}"
        f"{{%- else %}}{{{{- raise_exception({_text(_REFUSES)}) }}}}{{%- endif %}}"
        "{%- endfor %}"
    )


def write_chat_template(prompts: TrainedPrompts, path: Path) -> None:
    """Write the chat template that makes the form of prompts. ExportError if there is none."""
    if prompts.shown_template is None:
        raise ExportError(
            f"there is no chat template to write ({prompts.told})",
            "leave --chat-template out, or choose a form: --form alpaca",
        )
    with new_file(path) as work:
        write_new(work, prompts.shown_template)


def _text(text: str) -> str:
    """A text as Jinja writes it, or nothing. Escapes are those that all programs know."""
    if not text:
        return ""
    for sign, escape in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(sign, escape)
    return f"'{text}'"


def page(prompts: TrainedPrompts, title: str, base: str, library: str, about: str) -> str:
    """The README.md of an export, as the Hub shows it.

    library  peft or transformers
    about    what was trained, in a sentence
    """
    head = f"---\nbase_model: {json.dumps(base)}\nlibrary_name: {library}\n---\n"
    return "\n".join([head, f"# {title}\n", f"{about}.\n", *_lines(prompts)])


def _lines(prompts: TrainedPrompts) -> Iterator[str]:
    form = prompts.form
    if prompts.labels:
        yield "## Labels\n"
        yield from (f"* {label}" for label in prompts.labels)
        return
    yield "## The form of a prompt\n"
    if not prompts.is_known:
        yield "The run does not say in which form its data had prompts.\n"
        return
    yield f"In training, prompts were put {form.describe()}.\n"
    if prompts.template is not None:
        yield f"`{TEMPLATE_FILE}` and `apply_chat_template` make it of a user's message.\n"
    for name, value in (
        ("system text", form.system),
        ("tools", None if form.tools is None else json.dumps(form.tools, indent=2)),
    ):
        if value is not None:
            yield f"All chats of the data have this {name}:\n"
            yield from (f"    {line}" for line in value.splitlines())  # a block of code
            yield ""

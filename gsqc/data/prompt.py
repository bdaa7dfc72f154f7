# SPDX-License-Identifier: Apache-2.0
"""The form of a prompt that a user gives: that of the run's data, unless an option says otherwise.

generate, eval, report and export decide it here, as the functions of gsqc/api.py do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gsqc.data.chat_prompt import chat_prompt
from gsqc.data.examples import Example, alpaca_prompt
from gsqc.data.form import DATA_FORMS, DataForm, in_form
from gsqc.data.prompt_end import DEFAULT_END, escaped, require_end, unescaped
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError
from gsqc.option import check_options, option
from gsqc.values import is_text

AUTO = "auto"
FORMS = ("chat", "alpaca", "prompt", "text")
_OF_DATA = dict(zip(DATA_FORMS, (*FORMS, "text"), strict=True))
"""The form of a prompt by that of the data. A document has no prompt: a text is continued."""
GROUP = "The form of a prompt"
OVERRIDES = "--form overrides"


@dataclass(frozen=True)
class PromptOptions:
    """What a user says about the form of a prompt. Raises OptionError if it does not fit."""

    form: str = option(
        AUTO,
        help="Form of a prompt: the model's chat template, Alpaca's, the prompt and its end, or "
        "the bare text. auto takes that of the run's data.",
        group=GROUP,
        choices=(AUTO, *FORMS),
    )
    chat: bool = option(False, help="Short for --form chat.", group=GROUP)
    system: str | None = option(
        None,
        help="System message of a chat. Without it, the one that all chats of the run's data "
        "share. An empty text leaves that out.",
        group=GROUP,
    )
    input: str | None = option(None, help="Input of a prompt in Alpaca's form.", group=GROUP)
    prompt_end: str | None = option(
        None,
        help=r"Text between a prompt and its answer. Without it, that of the run, or \n.",
        group=GROUP,
        parse=unescaped,
    )

    def __post_init__(self) -> None:
        """Check the values, and that --chat and --form say the same."""
        check_options(self)
        if self.prompt_end is not None:
            require_end(self.prompt_end)
        if self.chat and self.form not in (AUTO, "chat"):
            raise OptionError(f"--chat and --form {self.form} are two forms", "give one of them")

    def of_prompt(self, prompt: object) -> PromptOptions:
        """These options. OptionError if the prompt is token ids and a form is asked for."""
        if not isinstance(prompt, str) and self != PromptOptions():
            raise OptionError("token ids have no form", "give the prompt as a text")
        return self

    @property
    def wanted(self) -> str | None:
        """The form that the user asks for, or None."""
        return "chat" if self.chat else None if self.form == AUTO else self.form


@dataclass(frozen=True)
class PromptForm:
    """The form that prompts have.

    form        one of FORMS
    system      the system message of a chat, or None
    tools       the tools of a chat, or None
    input       the input in Alpaca's form, or None
    prompt_end  what stands between a prompt and its answer
    told        where the form comes from, in a sentence. None if there is nothing to tell
    """

    form: str = "prompt"
    system: str | None = None
    tools: list[Any] | None = None
    input: str | None = None
    prompt_end: str = DEFAULT_END
    told: str | None = None

    def describe(self) -> str:
        """The form in a few words."""
        if self.form == "chat":
            parts = [("a system text", self.system), ("tools", self.tools)]
            further = " and ".join(name for name, value in parts if value is not None)
            return "in the model's chat template" + (f" with {further}" if further else "")
        end = "a newline" if self.prompt_end == "\n" else f'"{escaped(self.prompt_end)}"'
        end = f"with {end} behind it" if self.prompt_end else "with nothing behind it"
        return {"alpaca": "in Alpaca's form", "prompt": end, "text": "as a text to go on with"}[
            self.form
        ]

    def tokens(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The tokens of a prompt, which an answer follows. Raises OptionError, DataError."""
        if not is_text(text):
            raise OptionError("the prompt is no text in UTF-8", "give whole characters")
        if self.form == "chat":
            return chat_prompt(tokenizer, text, self.system, self.tools)
        if self.form == "alpaca":
            if not text.strip():
                raise OptionError("Alpaca's form has no empty instruction", "give a --prompt")
            return tokenizer.encode_prompt(alpaca_prompt(text, self.input or ""), self.prompt_end)
        tokens = tokenizer.encode_prompt(text, self.prompt_end if self.form == "prompt" else "")
        if not tokens:
            raise DataError(
                "the prompt is empty, and the model has no token that begins a text",
                "give a prompt of at least one character",
            )
        return tokens

    def convert(self, example: Example) -> Example:
        """A record with its prompt in this form, if it has no form of its own."""
        return in_form(example, self.form, self.system, self.tools)


def choose_form(
    options: PromptOptions, recorded: DataForm | None, *, of_run: bool = False
) -> PromptForm:
    """The form that prompts have. Raises OptionError if an option is not for this form.

    recorded  the form of the run's data, or None
    of_run    whether there is a run. Its config.json may lack the form
    """
    trained = None if recorded is None else _OF_DATA[recorded.form]
    form = options.wanted or trained or "prompt"
    for name, value, needed in (
        ("--system", options.system, "chat"),
        ("--input", options.input, "alpaca"),
    ):
        if value is not None and form != needed:
            raise OptionError(
                f"{name} is for the form {needed}, and the prompt's is {form}",
                f"add --form {needed}, or leave {name} out",
            )
    known = recorded or DataForm()
    system = known.system if options.system is None else options.system or None
    end = known.prompt_end if options.prompt_end is None else options.prompt_end
    is_chat = form == "chat"
    chosen = PromptForm(
        form,
        system=system if is_chat else None,
        tools=known.tools if is_chat else None,
        input=options.input,
        prompt_end=end,
    )
    return replace(chosen, told=_told(chosen, options, recorded, trained)) if of_run else chosen


def _told(
    chosen: PromptForm, options: PromptOptions, recorded: DataForm | None, trained: str | None
) -> str:
    about = f"prompt {chosen.describe()}"
    if recorded is None:
        why = "" if options.wanted else f"; {OVERRIDES}"
        return f"{about}: the run has no recorded form{why}"
    if trained != chosen.form:
        return f"{about}, though the run's data has the form {trained}"
    if recorded.is_mixed:
        counts = ", ".join(f"{n} {_OF_DATA[form]}" for form, n in recorded.records.items())
        return f"{about}, as most of the run's data ({counts}); {OVERRIDES}"
    return f"{about}, as the run's data; {OVERRIDES}"

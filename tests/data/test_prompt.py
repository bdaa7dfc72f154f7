# SPDX-License-Identifier: Apache-2.0
"""A prompt at use has the form of the run's data: the same tokens that training put before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gsqc.data import DataOptions, load_data, load_split
from gsqc.data.form import MOST_SHARED, DataForm
from gsqc.data.prompt import FORMS, PromptForm, PromptOptions, choose_form
from gsqc.data.prompt_end import escaped, unescaped
from gsqc.errors import DataError, OptionError
from gsqc.option_texts import parse_options
from tests.data.small_data import jsonl, make_tokenizer
from tests.data.templates import CHATML
from tests.runtime.small_bundle import END, byte_tokenizer

QUESTION, ANSWER = "Who repairs the bicycle?", "Tomas."
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nWho repairs the bicycle?\n\n### Response:"
)
"""PROMPT_DICT["prompt_no_input"] of stanford_alpaca's train.py, with the question in it."""
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "Who repairs the bicycle?\n\n### Input:\nIn town\n\n### Response:"
)
"""The same with PROMPT_DICT["prompt_input"]."""
USER, ASSISTANT = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
SYSTEM = {"role": "system", "content": "You know the house."}
TOOLS = [{"type": "function", "function": {"name": "look"}}]
WITH_TOOLS = "{{ tools | tojson }}" + CHATML
RECORDS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": QUESTION, "completion": ANSWER},
    "alpaca": {"instruction": QUESTION, "output": ANSWER},
    "chat": {"messages": [USER, ASSISTANT]},
    "chat with a system text": {"messages": [SYSTEM, USER, ASSISTANT]},
    "chat with tools": {"messages": [SYSTEM, USER, ASSISTANT], "tools": TOOLS},
}


def recorded(data: Any, end: str = "\n") -> DataForm | None:
    """What a later command reads from the config.json of a run on this data."""
    config = {**data.form(end).setting(), "prompt_end": end}
    return DataForm.of_config(json.loads(json.dumps(config)))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("end", ["\n", "", "\t->"])
@pytest.mark.parametrize("case", RECORDS)
def test_a_prompt_has_the_tokens_that_training_put_before_the_answer(
    case: str, end: str, bos: bool, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer(bos=bos, chat_template=WITH_TOOLS)
    data = load_data(jsonl(tmp_path / "a.jsonl", RECORDS[case]), tokenizer, 512, prompt_end=end)
    (sequence,) = data.sequences
    first = int(sequence.weights.nonzero()[0][0])
    trained = [int(sequence.tokens[0]), *sequence.labels[:first].tolist()]
    form = choose_form(PromptOptions(), recorded(data, end), of_run=True)
    assert form.tokens(tokenizer, QUESTION) == trained


def test_the_form_of_documents_is_the_bare_text(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(bos=True)
    (tmp_path / "a.md").write_text("The rain in Spain")
    data = load_data(tmp_path / "a.md", tokenizer, 64)
    form = choose_form(PromptOptions(), recorded(data), of_run=True)
    assert form.form == "text"
    assert form.tokens(tokenizer, "The rain") == data.sequences[0].tokens[:9].tolist()


def text_of(form: PromptForm, prompt: str = QUESTION) -> str:
    tokenizer = make_tokenizer(chat_template=CHATML)
    return tokenizer.decode(form.tokens(tokenizer, prompt), special=True)


def test_alpacas_text() -> None:
    assert text_of(choose_form(PromptOptions("alpaca"), None)) == ALPACA + "\n"
    given = PromptOptions("alpaca", input="In town", prompt_end="")
    assert text_of(choose_form(given, None)) == ALPACA_INPUT


def test_options_override_the_form_of_the_run() -> None:
    run = DataForm({"chat": 3}, "You know the house.", TOOLS, "\t")
    plain = choose_form(PromptOptions("prompt"), run, of_run=True)
    assert (text_of(plain), plain.system, plain.tools) == (QUESTION + "\t", None, None)
    assert text_of(choose_form(PromptOptions("text"), run)) == QUESTION
    assert choose_form(PromptOptions("prompt", prompt_end=": "), run).prompt_end == ": "
    assert choose_form(PromptOptions(), run).system == "You know the house."
    assert choose_form(PromptOptions(system="Be short."), run).system == "Be short."
    assert choose_form(PromptOptions(system="", chat=True), run).system is None
    assert text_of(choose_form(PromptOptions(), None)) == QUESTION + "\n"


@pytest.mark.parametrize(
    ("records", "options", "told"),
    [
        ({"alpaca": 3}, {}, "prompt in Alpaca's form, as the run's data; --form overrides"),
        ({"prompt": 1}, {}, "prompt with a newline behind it, as the run's data; --form overrides"),
        (
            {"prompt": 1},
            {"prompt_end": " A:\n"},
            r'prompt with " A:\n" behind it, as the run\'s data; --form overrides',
        ),
        (
            {"document": 2},
            {},
            "prompt as a text to go on with, as the run's data; --form overrides",
        ),
        (
            {"alpaca": 3},
            {"form": "text"},
            "prompt as a text to go on with, though the run's data has the form alpaca",
        ),
        (
            {"chat": 1, "alpaca": 2},
            {},
            "prompt in Alpaca's form, as most of the run's data (1 chat, 2 alpaca); "
            "--form overrides",
        ),
    ],
)
def test_what_is_told(records: dict[str, int], options: dict[str, Any], told: str) -> None:
    form = choose_form(PromptOptions(**options), DataForm(records), of_run=True)
    assert form.told == told.replace("\\'", "'")


def test_a_run_of_an_older_gsqc_has_no_form() -> None:
    form = choose_form(PromptOptions(), DataForm.of_config({"lr": "0.001"}), of_run=True)
    assert (form.form, form.prompt_end) == ("prompt", "\n")
    assert form.told is not None and "the run has no recorded form" in form.told
    assert choose_form(PromptOptions(), None).told is None


ODD: list[Any] = [None, True, -1, 2**70, 1.5, "", "\ud800", "chat", [], [[1]], {}, {"chat": -1}]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_values_in_a_strangers_config(odd: Any) -> None:
    """What makes no sense is no form, and never another error."""
    good = {"records": {"chat": 1}, "system": None, "tools": None}
    assert DataForm.of_config({"data_form": odd}) is None
    assert DataForm.of_config({"data_form": {**good, "records": odd}}) is None
    assert DataForm.of_config({"data_form": {**good, "records": {"chat": odd}}}) is None
    for name in ("system", "tools"):
        found = DataForm.of_config({"data_form": {**good, name: odd}})
        assert found is not None and found.form == "chat"
    assert DataForm.of_config({"data_form": {**good, "records": {"chat": 1, "other": 1}}}) is None


def test_only_what_all_chats_share_is_recorded(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(chat_template=WITH_TOOLS)
    chat, system, tools = (RECORDS[f"chat{k}"] for k in ("", " with a system text", " with tools"))
    other = {"messages": [{"role": "system", "content": "Another"}, USER, ASSISTANT]}
    for records, expected in (
        ([system, system], ("You know the house.", None)),
        ([system, chat, system], (None, None)),
        ([chat, system], (None, None)),
        ([system, other], (None, None)),
        ([tools, tools], ("You know the house.", TOOLS)),
        ([tools, system], ("You know the house.", None)),
    ):
        form = recorded(load_data(jsonl(tmp_path / "a.jsonl", *records), tokenizer, 512))
        assert form is not None
        assert (form.system, form.tools) == expected
    long = DataForm({"chat": 1}, "x" * MOST_SHARED)
    assert long.setting()["data_form"]["system"] is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"system": "s"}, "--system is for the form chat, and the prompt's is prompt"),
        ({"form": "alpaca", "system": "s"}, "--system is for the form chat"),
        ({"input": "i"}, "--input is for the form alpaca"),
        ({"chat": True, "form": "text"}, "--chat and --form text are two forms"),
        ({"form": "llama"}, "--form llama is not one of"),
        ({"prompt_end": "x" * 257}, "not a text of up to 256 characters"),
        ({"prompt_end": "\0"}, "not a text of up to 256 characters"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        choose_form(PromptOptions(**options), None)


def test_an_empty_prompt_works_or_is_refused_in_a_sentence() -> None:
    with_bos, without = make_tokenizer(bos=True), make_tokenizer(eos_token_id=None)
    for form in ("prompt", "text"):
        chosen = PromptForm(form)
        assert (
            chosen.tokens(with_bos, "")
            == list(with_bos.beginning)
            == byte_tokenizer().encode("A").ids
        )
        assert chosen.tokens(make_tokenizer(), "") == [END]
        with pytest.raises(DataError, match="the prompt is empty"):
            chosen.tokens(without, "")
    with pytest.raises(OptionError, match="no empty instruction"):
        PromptForm("alpaca").tokens(with_bos, " ")


@pytest.mark.parametrize(
    ("text", "meant"),
    [(r"\n", "\n"), (r"\t\r", "\t\r"), (r"\\n", r"\n"), ("\n### A:\n", "\n### A:\n"), ("", "")],
)
def test_escapes(text: str, meant: str) -> None:
    assert unescaped(text) == meant
    assert unescaped(escaped(meant)) == meant
    assert parse_options(PromptOptions, {"prompt_end": text}).prompt_end == meant
    options = parse_options(DataOptions, {"data": (Path("a"),), "prompt_end": text})
    assert options.prompt_end == meant


@pytest.mark.parametrize("text", [r"\x", "a\\", r"\é"])
def test_escapes_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="has the escape"):
        unescaped(text)


@pytest.mark.parametrize("form", FORMS)
def test_records_of_bare_prompts_take_a_form(form: str, tmp_path: Path) -> None:
    """They become the tokens of the record that has this form of its own."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    bare = DataOptions((jsonl(tmp_path / "a.jsonl", RECORDS["prompt"]),))
    own = RECORDS[{"chat": "chat with a system text", "text": "prompt"}.get(form, form)]
    chosen = PromptForm(form, system="You know the house.")
    converted, _ = load_split(bare, tokenizer, 512, convert=chosen.convert)
    expected = load_data(jsonl(tmp_path / "b.jsonl", own), tokenizer, 512)
    for part in ("tokens", "labels", "weights"):
        ours, theirs = (getattr(data.sequences[0], part) for data in (converted, expected))
        assert ours.tolist() == theirs.tolist()
    assert converted.shapes == expected.shapes
    again, _ = load_split(
        DataOptions((tmp_path / "b.jsonl",)), tokenizer, 512, convert=chosen.convert
    )
    assert again.sequences[0].tokens.tolist() == expected.sequences[0].tokens.tolist()

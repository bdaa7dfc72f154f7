# SPDX-License-Identifier: Apache-2.0
"""generate and report put a prompt into the form of the run's data, and say so."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import gsqc
import gsqc.cli.report
from gsqc.cli.main import main
from gsqc.errors import DataError, OptionError
from tests.cli.prompted import place, trained
from tests.cli.run_command import Capture, run_json, run_text
from tests.data.small_data import jsonl
from tests.data.test_prompt import ALPACA, ANSWER, QUESTION, RECORDS
from tests.runtime.small_bundle import write_bundle

__all__ = ["place"]

CHAT = (
    "<|im_start|>system\nYou know the house.<|im_end|>\n<|im_start|>user\n"
    "Who repairs the bicycle?<|im_end|>\n<|im_start|>assistant\n"
)
"""What transformers makes of the messages with CHATML (tests/data/test_chat.py compares them)."""
MOST = ("--max-tokens", 300)


def ask(capsys: Capture, place: Path, run: Path, *options: object) -> dict[str, Any]:
    capsys.readouterr()
    given = ["--run", run, "--prompt", QUESTION, *MOST, *options]
    code, (line,) = run_json(capsys, "generate", place / "plain.gsqc", *given)
    assert code == 0
    return line


@pytest.mark.parametrize(
    ("case", "form", "text"),
    [
        ("prompt", "prompt", QUESTION + "\n"),
        ("alpaca", "alpaca", ALPACA + "\n"),
        ("chat with a system text", "chat", CHAT),
    ],
)
def test_generate_puts_a_prompt_into_the_form_of_the_data(
    capsys: Capture, place: Path, case: str, form: str, text: str
) -> None:
    run = trained(place, RECORDS[case])
    line = ask(capsys, place, run)
    assert line["text"].replace("<end>", "") == text
    assert (line["form"], line["dropped_tokens"]) == (form, 0)
    assert "as the run's data; --form overrides" in line["notes"][0]
    given = ["--run", run, "--prompt", QUESTION, *MOST]
    code, out, err = run_text(capsys, "generate", place / "plain.gsqc", *given)
    assert (code, out) == (0, text + "\n")
    assert err == f"note: {line['notes'][0]}\n"
    config = json.loads((run / "config.json").read_text())
    assert config["data_form"]["records"] == {form: 1}


def test_options_override_the_runs_form(capsys: Capture, place: Path) -> None:
    run = trained(place, RECORDS["alpaca"], options=("--prompt-end", r"\n>>"))
    assert ask(capsys, place, run)["text"] == ALPACA + "\n>>"
    assert ask(capsys, place, run, "--form", "text")["text"] == QUESTION
    assert ask(capsys, place, run, "--form", "prompt", "--prompt-end", r"\t")["text"] == (
        QUESTION + "\t"
    )
    assert ask(capsys, place, run, "--chat", "--system", "You know the house.")["text"] == CHAT
    assert "### Input:\nIn town\n" in ask(capsys, place, run, "--input", "In town")["text"]
    assert (
        "though the run's data has the form alpaca"
        in (ask(capsys, place, run, "--form", "text")["notes"][0])
    )
    for wrong in (["--system", "s"], ["--form", "chat", "--input", "i"], ["--prompt-end", r"\x"]):
        given = ["--run", run, "--prompt", "a", *wrong]
        code, out, err = run_text(capsys, "generate", place / "plain.gsqc", *given)
        assert (code, out) == (2, "") and err.count("\n") == 1


def test_a_run_without_a_recorded_form_goes_on(capsys: Capture, place: Path) -> None:
    run = trained(place, RECORDS["alpaca"])
    config = json.loads((run / "config.json").read_text())
    for name in ("data_form", "paths"):
        del config[name]
    (run / "config.json").write_text(json.dumps(config))
    line = ask(capsys, place, run)
    assert (line["text"], line["form"]) == (QUESTION + "\n", "prompt")
    assert "the run has no recorded form" in line["notes"][0]
    again = ["train", str(place / "plain.gsqc"), "--data", str(place / "run.jsonl")]
    again += ["--steps", "3", "--run", str(run)]
    assert main([*again, "--prompt-end", "x"]) == 2
    assert r"prompt_end was \n, is x" in capsys.readouterr().err
    assert main(again) == 0
    assert json.loads((run / "config.json").read_text())["prompt_end"] == "\n"


def test_a_dropped_beginning_is_told_or_refused(capsys: Capture, place: Path) -> None:
    bundle = write_bundle(place / "short.gsqc")  # 16 tokens
    long = ["generate", bundle, "--prompt", "x" * 30, "--max-tokens", 3]
    code, (line,) = run_json(capsys, *long)
    assert (code, line["prompt_tokens"], line["dropped_tokens"]) == (0, 31, 15)
    assert line["notes"][0].startswith("the first 15 of the prompt's 31 tokens were dropped")
    assert "after 1 tokens the text was longer" in line["notes"][1]
    assert run_text(capsys, *long)[2] == "".join(f"note: {note}\n" for note in line["notes"])
    code, out, err = run_text(capsys, *long, "--strict")
    assert (code, out) == (2, "")
    assert "the prompt has 31 tokens, and the bundle's sequences have 16" in err
    fits = ["generate", bundle, "--prompt", "x" * 15, "--max-tokens", 1, "--strict"]
    assert run_json(capsys, *fits)[1][0]["notes"] == []


def test_python_has_the_same_form(place: Path) -> None:
    run = trained(place, RECORDS["alpaca"])
    asked: dict[str, Any] = {"run": run, "max_tokens": 300}
    assert gsqc.generate(place / "plain.gsqc", QUESTION, **asked) == ALPACA + "\n"
    assert gsqc.generate(place / "plain.gsqc", QUESTION, **asked, form="text") == QUESTION
    chat = gsqc.generate(
        place / "plain.gsqc", QUESTION, **asked, chat=True, system="You know the house."
    )
    assert chat == CHAT
    with pytest.raises(OptionError, match="--system is for the form chat"):
        gsqc.generate(place / "plain.gsqc", QUESTION, **asked, system="s")
    short = write_bundle(place / "short.gsqc")
    with pytest.warns(UserWarning, match="the first 15 of the prompt's 31 tokens"):
        gsqc.generate(short, "x" * 30, max_tokens=1)
    with pytest.raises(DataError, match="the prompt has 31 tokens"):
        gsqc.generate(short, "x" * 30, strict=True)


def test_report_asks_as_generate_does(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gsqc.cli.report, "_shown", lambda bundle, adapter: {})
    monkeypatch.setattr(gsqc.cli.report, "read_adapter", lambda bundle, run: None)
    monkeypatch.setattr(gsqc.cli.report, "load_adapter", lambda session, state: None)
    run = trained(place, RECORDS["alpaca"])
    capsys.readouterr()
    given = ["--bundle", place / "plain.gsqc", "--sample", QUESTION, "--no-measure", *MOST]
    code, (line,) = run_json(capsys, "report", run, *given)
    (sample,) = line["samples"]
    assert code == 0
    assert sample == {"prompt": QUESTION, "before": ALPACA + "\n", "after": ALPACA + "\n"}
    assert "as the run&#x27;s data; --form overrides" in (run / "report.html").read_text()
    line = run_json(capsys, "report", run, *given, "--chat", "--system", "You know the house.")[1]
    assert line[0]["samples"][0]["after"] == CHAT
    assert run_text(capsys, "report", run, "--chat")[0] == 2


def test_data_shows_the_end_of_a_prompt(capsys: Capture, place: Path) -> None:
    data = jsonl(place / "a.jsonl", RECORDS["prompt"])
    given = ["--bundle", place / "plain.gsqc", "--prompt-end", r"\t=> "]
    code, (line,) = run_json(capsys, "data", data, *given)
    assert code == 0
    assert line["examples"][0][0] == {"text": f"{QUESTION}\t=> ", "trained": False}
    assert Fraction(line["trained_tokens"]) == len(ANSWER) + 1

# SPDX-License-Identifier: Apache-2.0
"""eval reads records as the run did, and measures what a run held out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import gsqc
import gsqc.cli.evaluate
import gsqc.runtime.results
import gsqc.training.open_run
from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from tests.cli.prompted import place, trained
from tests.cli.run_command import Capture, run_json, run_text
from tests.data.small_data import jsonl
from tests.data.test_prompt import ANSWER, RECORDS
from tests.runtime.small_bundle import FakeSession

__all__ = ["place"]


class Counting(FakeSession):
    """Its loss tells what was measured: the sum of all tokens with a loss."""

    def evaluate(self, sequences: Any, watch: Any = None) -> Any:
        total = sum(int(s.labels[s.weights > 0].sum()) for s in sequences)
        return gsqc.runtime.results.EvaluationResult(total, 1.0, len(sequences))


def measured(capsys: Capture, place: Path, *options: object) -> dict[str, Any]:
    capsys.readouterr()
    code, (line,) = run_json(capsys, "eval", place / "plain.gsqc", *options)
    assert code == 0
    return line


def test_eval_puts_bare_prompts_into_the_form_of_the_run(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gsqc.cli.evaluate, "Session", Counting)
    run = trained(place, RECORDS["chat with a system text"])
    bare, own = (
        jsonl(place / f"{k}.jsonl", RECORDS[k]) for k in ("prompt", "chat with a system text")
    )
    line = measured(capsys, place, "--data", bare, "--run", run)
    assert line["loss"] == measured(capsys, place, "--data", own)["loss"]
    assert line["notes"] == [
        "1 bare prompts are taken in the model's chat template with a system text, "
        "as the run's data; --form overrides"
    ]
    plain = measured(capsys, place, "--data", bare, "--run", run, "--form", "prompt")
    assert plain["loss"] == measured(capsys, place, "--data", bare)["loss"] != line["loss"]
    told = ["the data has the form prompt, and the run's data had chat"]
    assert plain["notes"] == told
    code, out, err = run_text(
        capsys, "eval", place / "plain.gsqc", "--data", bare, "--run", run, "--form", "prompt"
    )
    assert (code, out.splitlines()[0], err) == (0, told[0], "")


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"p{k}", "completion": ANSWER * (k + 1)} for k in range(count)]


@pytest.mark.parametrize("mask", ["--mask-prompt", "--no-mask-prompt"])
def test_eval_measures_what_a_run_held_out(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    monkeypatch.setattr(gsqc.training.open_run, "Session", Counting)
    monkeypatch.setattr(gsqc.cli.evaluate, "Session", Counting)
    options = ("--validation", "30%", mask, "--prompt-end", ": ")
    run = trained(place, *numbered(10), options=options)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    held_out = measured(capsys, place, "--run", run, "--held-out")
    assert (held_out["loss"], held_out["tokens"]) == (log[0]["validation_loss"], 3)
    data = ("--data", place / "run.jsonl", "--run", run)
    assert measured(capsys, place, *data, "--validation", "0.3")["loss"] == held_out["loss"]
    everything = measured(capsys, place, *data)
    assert everything["tokens"] == 10
    tokenizer = Tokenizer(Bundle.open(place / "plain.gsqc"))
    with_end = load_data(
        place / "run.jsonl", tokenizer, 512, prompt_end=": ", mask_prompt=mask == "--mask-prompt"
    )
    expected = sum(int(s.labels[s.weights > 0].sum()) for s in with_end.sequences)
    assert everything["loss"] == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert gsqc.evaluate(place / "plain.gsqc", run=run, held_out=True).tokens > 0


def test_eval_of_a_held_out_file(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    jsonl(place / "held.jsonl", *numbered(2))
    run = trained(place, *numbered(4), options=("--validation", "held.jsonl"))
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    line = measured(capsys, place, "--run", run, "--held-out")
    assert line["notes"] == ["2 sequences that the run held out: held.jsonl"]
    jsonl(place / "held.jsonl", *numbered(3))
    code, _, err = run_text(capsys, "eval", place / "plain.gsqc", "--run", run, "--held-out")
    assert code == 2 and "its sha256 differs" in err
    (place / "held.jsonl").unlink()
    code, _, err = run_text(capsys, "eval", place / "plain.gsqc", "--run", run, "--held-out")
    assert code == 2 and f"looked for {place / 'held.jsonl'}" in err


@pytest.mark.parametrize("how", ["directory", "named directory"])
def test_the_held_out_split_of_a_directory(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Of the training data, and of a directory that --validation names."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", Counting)
    monkeypatch.setattr(gsqc.cli.evaluate, "Session", Counting)
    folder, run = place / "mlx", place / "split"
    folder.mkdir()
    jsonl(folder / "train.jsonl", *numbered(4))
    jsonl(folder / "valid.jsonl", *numbered(2))
    options = ["--steps", "2", "--run", str(run), "--data"]
    options += [str(folder if how == "directory" else folder / "train.jsonl")]
    options += [] if how == "directory" else ["--validation", str(folder)]
    assert main(["train", str(place / "plain.gsqc"), *options]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    line = measured(capsys, place, "--run", run, "--held-out")
    assert (line["loss"], line["tokens"]) == (log[0]["validation_loss"], 2)
    alone = measured(capsys, place, "--data", folder)
    assert (alone["loss"], alone["tokens"]) == (line["loss"], 2)
    assert "valid.jsonl: measured alone" in alone["notes"][0]
    jsonl(folder / "valid.jsonl", *numbered(3))
    code, _, err = run_text(capsys, "eval", place / "plain.gsqc", "--run", run, "--held-out")
    assert code == 2 and "its sha256 differs" in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "there is nothing to measure"),
        (["--held-out"], "only a run has held-out data"),
        (["--held-out", "--run", "{run}"], "trained without --validation"),
        (["--held-out", "--run", "{run}", "--validation", "10%"], "as it was read there"),
        (["--held-out", "--run", "{run}", "--chat"], "reads records as the run did"),
        (["--data", "{data}", "--validation", "{data}"], "is a file, and eval takes a share"),
        (["--data", "{data}", "--validation", "2"], "neither a file nor a share"),
        (["--perplexity", "{data}", "--data", "{data}"], "measures a text as it is"),
        (["--perplexity", "{data}", "--chat"], "measures a text as it is"),
        (["--perplexity", "{data}", "--held-out", "--run", "{run}"], "measures a text as it is"),
        (["--perplexity", "absent.txt"], "cannot read absent.txt"),
        (["--perplexity", "{data}", "--limit", "0"], "--limit 0 is not a whole number from 1"),
    ],
)
def test_evaluations_that_make_no_sense(
    capsys: Capture, place: Path, options: list[str], told: str
) -> None:
    run = trained(place, *numbered(4))
    capsys.readouterr()
    given = [o.format(run=run, data=place / "run.jsonl") for o in options]
    code, out, err = run_text(capsys, "eval", place / "plain.gsqc", *given)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1

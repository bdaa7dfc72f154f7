# SPDX-License-Identifier: Apache-2.0
"""Settings files: errors name the line, the command line wins, and a run's file repeats the run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.training.settings_file import read_settings, toml_value
from tests.runtime.small_bundle import FakeSession, write_bundle

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a bundle and data."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "model.gsqc")
    records = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


SETTINGS = """# mine
[train]
bundle = "model.gsqc"
data = "notes.jsonl"
steps = 3   # three
lr = 1e-3
run = "runs/a"
"""


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_file_of_init_runs_as_it_is(place: Path, capsys: Capture) -> None:
    assert main(["init"]) == 0
    text = (place / "gsqc.toml").read_text()
    assert "# Peak learning rate.\n#lr = 0.001\n" in text
    assert '#schedule = "constant"\n' in text
    assert main(["train", "--config", "gsqc.toml", "--steps", "2"]) == 0
    assert len(log(place / "runs" / "first")) == 2
    assert main(["init"]) == 2
    assert "gsqc.toml exists" in capsys.readouterr().err
    assert main(["init", "--force"]) == 0


def test_every_line_of_init_is_a_setting(place: Path) -> None:
    """Each setting has a type that its command takes, once it is no comment."""
    assert main(["init"]) == 0
    # All but the file of images: this bundle takes none.
    lines = r"^#(?=(?!images )[a-z_]+ = )"
    text = re.sub(lines, "", (place / "gsqc.toml").read_text(), flags=re.MULTILINE)
    (place / "full.toml").write_text(text)
    assert (
        main(["train", "--config", "full.toml", "--validation", "notes.jsonl", "--steps", "2"]) == 0
    )


def test_the_command_line_wins_over_the_file(place: Path) -> None:
    (place / "s.toml").write_text(SETTINGS + "mask_prompt = false\npacking = true\n")
    assert (
        main(["train", "--config", "s.toml", "--lr", "2e-3", "--run", "runs/b", "--no-packing"])
        == 0
    )
    config = json.loads((place / "runs" / "b" / "config.json").read_text())
    assert (config["lr"], config["steps"], config["mask_prompt"], config["packing"]) == (
        "0.002",
        3,
        False,
        False,
    )


@pytest.mark.parametrize("again", ["config", "resume"])
def test_a_runs_file_makes_it_again(place: Path, again: str) -> None:
    options = [
        "--steps",
        "5",
        "--lr",
        "3e-3",
        "--schedule",
        "cosine",
        "--clip",
        "0.5",
        "--accumulate",
        "2",
    ]
    held_out = ["--validation", "notes.jsonl", "--seed", "3"]
    assert (
        main(
            ["train", "model.gsqc", "--data", "notes.jsonl", "--run", "runs/a", *options, *held_out]
        )
        == 0
    )
    if again == "config":
        assert main(["train", "--config", "runs/a/config.toml", "--run", "runs/b"]) == 0
    else:
        (place / "runs" / "a").rename(place / "runs" / "b")
        (place / "runs" / "b" / "state.safetensors").unlink()
        assert main(["train", "--resume", "runs/b"]) == 0
        (place / "runs" / "b").rename(place / "runs" / "a")
        assert main(["train", "--config", "runs/a/config.toml", "--run", "runs/b"]) == 0
    assert [e.get("digest") for e in log(place / "runs" / "b")] == [
        e.get("digest") for e in log(place / "runs" / "a")
    ]
    settings = [(place / "runs" / name / "config.toml").read_text() for name in "ab"]
    assert (
        settings[0].split("[train]")[1].replace("runs/a", "runs/b")
        == settings[1].split("[train]")[1]
    )


def test_a_run_is_not_made_again_with_other_data(place: Path, capsys: Capture) -> None:
    (place / "s.toml").write_text(SETTINGS)
    assert main(["train", "--config", "s.toml"]) == 0
    (place / "notes.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    again = ["train", "--config", "runs/a/config.toml", "--run", "runs/b"]
    assert main(again) == 2
    assert "the data changed since the run" in capsys.readouterr().err
    assert main([*again, "--data", "notes.jsonl"]) == 0


BAD = {
    "unknown": (SETTINGS + "learning_rate = 1\n", "s.toml:8: unknown setting learning_rate"),
    "close": (SETTINGS + "save-every = 5\n", "did you mean save_every?"),
    "text for a number": (
        SETTINGS.replace("= 3 ", '= "many" '),
        's.toml:5: steps is "many"; steps takes a whole number',
    ),
    "fraction": (
        SETTINGS.replace("= 3 ", "= 2.5 "),
        "s.toml:5: steps is 2.5; steps takes a whole number",
    ),
    "truth": (SETTINGS.replace("= 3 ", "= true "), "s.toml:5: steps is True"),
    "number for a path": (
        SETTINGS.replace('"notes.jsonl"', "7"),
        "s.toml:4: data is 7; data takes a path in quotes",
    ),
    "list": (SETTINGS.replace("1e-3", "[1, 2]"), "s.toml:6: lr is [1, 2]"),
    "table": (SETTINGS.replace("[train]", "[training]"), "s.toml:2: unknown table [training]"),
    "no table": ("[compile]\nmodel = 'm'\n", "s.toml:1: the file has no table [train]"),
    "outside": ("x = 1\nsteps = 3\n" + SETTINGS, "s.toml:1: x stands outside of a table"),
    "not TOML": (SETTINGS.replace('"model.gsqc"', "model.gsqc"), "s.toml:3: not TOML"),
    "twice": (SETTINGS + "steps = 4\n", "s.toml:8: not TOML"),
    "out of range": (SETTINGS.replace("= 3 ", "= 0 "), "s.toml:5: --steps 0 is not a whole number"),
    "no choice": (SETTINGS + "schedule = 'square'\n", "s.toml:8: --schedule square is not one of"),
    "no rate": (SETTINGS.replace("1e-3", "2.5"), "s.toml:6: --lr 2.5 is not a number from 0 to 1"),
    "nested": ("a = " + "[" * 3000, "not TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_line(place: Path, capsys: Capture, case: str) -> None:
    text, told = BAD[case]
    (place / "s.toml").write_text(text)
    assert main(["train", "--config", "s.toml"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1, error
    assert not (place / "runs").exists()


def test_a_file_that_is_not_there_or_no_text(place: Path, capsys: Capture) -> None:
    assert main(["train", "--config", "absent.toml"]) == 2
    assert "write one: gsqc init absent.toml" in capsys.readouterr().err
    (place / "s.toml").mkdir()
    assert main(["train", "--config", "s.toml"]) == 2
    assert "cannot read s.toml: it is a directory" in capsys.readouterr().err
    (place / "s.toml").rmdir()
    (place / "s.toml").write_bytes(b"\xff\xfe")
    assert main(["train", "--config", "s.toml"]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/none"]) == 2
    assert "runs/none has no config.toml to go on with" in capsys.readouterr().err


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000])
def test_a_number_of_5000_digits(place: Path, capsys: Capture, digits: str) -> None:
    (place / "s.toml").write_text(SETTINGS.replace("= 3 ", f"= {digits} "))
    assert main(["train", "--config", "s.toml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: s.toml") and error.count("\n") == 1


def test_settings_of_a_run_are_a_plain_file(place: Path, capsys: Capture) -> None:
    run = place / "runs" / "odd"
    run.mkdir(parents=True)
    os.mkfifo(run / "config.toml")
    assert main(["train", "--resume", str(run)]) == 2
    assert "config.toml: it is a FIFO" in capsys.readouterr().err
    (run / "config.toml").unlink()
    (place / "s.toml").write_text(SETTINGS)
    (run / "config.toml").symlink_to(place / "s.toml")
    assert main(["train", "--resume", str(run)]) == 2
    assert "config.toml: it is a link" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    ['a "b" \\ c', "tab\t, line\n, bell\x07, delete\x7f", "ü 😀", "007", "1e-12", "0.50", "300"],
)
def test_texts_come_back(tmp_path: Path, value: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"[train]\nkey = {toml_value(value)}\n", encoding="utf-8")
    assert str(read_settings(file, ["train"]).tables["train"]["key"]).lower() == value.lower()


def test_gsqc_alone_says_how_to_begin(capsys: Capture) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert "gsqc compile" in text and "gsqc train" in text and len(text.splitlines()) < 12

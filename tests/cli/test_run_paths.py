# SPDX-License-Identifier: Apache-2.0
"""A run goes on from another working directory, and after it was moved: its files are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.report.run_files import read_run
from gsqc.training.run_paths import find_path, record_paths
from tests.cli.run_command import Capture, run_json, run_text
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle, data, and a run of three of six steps on it, named relatively."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    write_bundle(place / "model.gsqc")
    for name in ("notes", "held"):
        records = [{"prompt": f"{name}{k}", "completion": f"c{k}"} for k in range(5)]
        (place / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    given = ["--data", "notes.jsonl", "--validation", "held.jsonl", "--prompt-end", "\\n=> "]
    assert main(["train", "model.gsqc", *given, "--steps", "3", "--run", "runs/a"]) == 0
    return place


def steps(run: Path) -> int:
    return read_run(run).steps


def test_a_run_goes_on_from_anywhere_and_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also twice: what the second start records leads to the same files."""
    for number, name in enumerate(("elsewhere", "deeper/still", "project/runs/a"), 4):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        resume = ["train", "--resume", str(project / "runs" / "a"), "--steps", str(number)]
        assert main(resume) == 0
        assert steps(project / "runs" / "a") == number
    config = json.loads((project / "runs" / "a" / "config.json").read_text())
    assert config["prompt_end"] == "\n=> "


@pytest.mark.parametrize("how", ["all together", "the run alone", "a copy of all"])
def test_a_run_that_was_moved_goes_on(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    moved, cwd = tmp_path / "moved", tmp_path / "cwd"
    cwd.mkdir()
    if how == "the run alone":
        (project / "runs" / "a").rename(moved)
        run = moved
    else:
        (shutil.copytree if how == "a copy of all" else Path.rename)(project, moved)
        run = moved / "runs" / "a"
    monkeypatch.chdir(cwd)
    assert main(["train", "--resume", str(run), "--steps", "4"]) == 0
    recorded = json.loads((run / "config.json").read_text())["paths"]
    owner = project if how == "the run alone" else moved
    assert Path(recorded[0][-1]) == owner / "model.gsqc"
    assert Path(recorded[2][-1]) == owner / "notes.jsonl"


def test_the_settings_of_a_run_go_on_with_that_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory was named relatively too, and no second run may begin elsewhere."""
    monkeypatch.chdir(tmp_path)
    file = project / "runs" / "a" / "config.toml"
    assert main(["train", "--config", str(file), "--steps", "5"]) == 0
    assert steps(project / "runs" / "a") == 5
    assert not (tmp_path / "runs").exists()
    assert main(["train", "--config", str(file), "--steps", "5", "--run", "b"]) == 0
    assert steps(tmp_path / "b") == 5
    shutil.copy(file, tmp_path / "mine.toml")
    assert main(["train", "--config", "mine.toml", "--steps", "6"]) == 0
    assert steps(project / "runs" / "a") == 6


def test_a_file_that_is_gone_is_named_with_the_places(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    shutil.move(project / "runs" / "a", tmp_path / "a")
    (project / "notes.jsonl").rename(tmp_path / "other.jsonl")
    monkeypatch.chdir(tmp_path)
    code, out, err = run_text(capsys, "train", "--resume", "a", "--steps", "4")
    assert (code, out) == (2, "")
    line = next(
        number
        for number, text in enumerate((tmp_path / "a" / "config.toml").read_text().split("\n"), 1)
        if text.startswith("data = ")
    )
    assert f"a/config.toml:{line}: notes.jsonl is not there" in err
    assert f"{project / 'notes.jsonl'}, {tmp_path / 'notes.jsonl'}" in err
    assert "--data" in err
    assert main(["train", "--resume", "a", "--steps", "4", "--data", "other.jsonl"]) == 0


def test_a_file_of_the_same_name_elsewhere_is_not_taken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.jsonl").write_text('{"prompt": "other", "completion": "data"}\n')
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "project/runs/a", "--steps", "4"]) == 0


def test_report_finds_the_bundle_from_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The small bundle lacks what a page shows, and that is what a note then says. The page names
    no place of this machine.
    """
    monkeypatch.chdir(tmp_path)
    assert "no such bundle" not in str(run_json(capsys, "report", "project/runs/a"))
    assert str(tmp_path) not in (project / "runs" / "a" / "report.html").read_text()
    (project / "model.gsqc").rename(tmp_path / "gone.gsqc")
    assert "no such bundle" in str(run_json(capsys, "report", "project/runs/a"))


def test_a_bundle_that_is_found_needs_trust(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []
    monkeypatch.setattr(
        gsqc.training.open_run,
        "require_trusted",
        lambda bundle, target, named_by: asked.append((bundle.path, named_by)),
    )
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "project/runs/a", "--steps", "4"]) == 0
    assert asked == [(project / "model.gsqc", "project/runs/a/config.toml")]


ODD: list[Any] = [None, 3, "x", [], [[]], [["notes.jsonl"]], [["notes.jsonl", 3]], [[{}, []]]]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_records_of_paths(odd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.jsonl").write_text("")
    assert find_path("notes.jsonl", {"paths": odd}, None).path == Path("notes.jsonl")


@pytest.mark.parametrize("odd", ["3", "true", "1.5", '"x"', "[]", "[3, []]", '[["notes.jsonl"]]'])
def test_odd_records_in_a_settings_file(odd: str, project: Path) -> None:
    """They say nothing, so the paths are taken as they are given."""
    file = project / "runs" / "a" / "config.toml"
    lines = file.read_text().splitlines()
    changed = [f"paths = {odd}" if line.startswith("paths = ") else line for line in lines]
    assert changed != lines
    file.write_text("\n".join(changed))
    assert main(["train", "--config", str(file), "--steps", "4"]) == 0
    assert steps(project / "runs" / "a") == 4


def test_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links in folders are followed, so that the way from the run is a real one."""
    (tmp_path / "real" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "data.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    real = tmp_path.resolve()
    assert record_paths(tmp_path / "link" / "run", [Path("data.jsonl")]) == {
        "paths": [["data.jsonl", "../../data.jsonl", str(real / "data.jsonl")]]
    }

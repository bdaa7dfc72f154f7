# SPDX-License-Identifier: Apache-2.0
"""gsqc data, and the data options of the other commands."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gsqc.cli.evaluate
import gsqc.cli.generate
import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.files import spool
from tests.data.templates import CHATML
from tests.runtime.small_bundle import SEQUENCE, FakeSession, manifest, write_bundle

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (gsqc.training.open_run, gsqc.cli.evaluate, gsqc.cli.generate):
        monkeypatch.setattr(module, "Session", FakeSession)
    return write_bundle(
        tmp_path / "small.gsqc", model=replace(manifest().model, chat_template=CHATML)
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = ['{"prompt": "ab", "completion": "xyz"}\n'] * 5 + [
        '{"prompt": "[b]\\u001b[2J", "completion": "' + "z" * 30 + '"}\n'
    ]
    path.write_text("".join(lines))
    return path


def run_json(capsys: Capture, *arguments: object) -> list[dict[str, Any]]:
    assert main([*map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def error_of(capsys: Capture, *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


def test_counts_histogram_and_examples(capsys: Capture, bundle: Path, data: Path) -> None:
    (line,) = run_json(capsys, "data", data, "--bundle", bundle, "--validation", "0.2")
    assert (line["records"], line["sequences"], line["held_out_sequences"]) == (6, 5, 1)
    assert (line["truncated_records"], line["truncated_tokens"], line["sequence_length"]) == (
        1,
        22,
        SEQUENCE,
    )
    assert (line["shortest"], line["median"], line["longest"]) == (7, 7, 39)
    assert sum(records for *_, records in line["histogram"]) == 6
    assert line["examples"][0] == [
        {"text": "ab\n", "trained": False},
        {"text": "xyz<end>", "trained": True},
    ]
    (packed,) = run_json(capsys, "data", data, "--bundle", bundle, "--packing")
    assert (packed["sequences"], packed["trained_tokens"]) == (4, 5 * 4 + 9)
    (whole,) = run_json(capsys, "data", data, "--bundle", bundle, "--no-mask-prompt")
    assert whole["trained_tokens"] == whole["tokens"]


def test_text_shows_what_has_a_loss(capsys: Capture, bundle: Path, data: Path) -> None:
    assert main(["data", str(data), "--bundle", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "6 records (6 prompt) in 6 sequences of 16" in out
    assert "1 records were cut to the sequence length (22 tokens lost)" in out
    assert "longer than a sequence" in out
    assert "     · | ab\n  loss | xyz<end>\n" in out
    assert "\x1b" not in out


def test_a_terminal_dims_it(
    capsys: Capture, bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["data", str(data), "--bundle", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "\x1b[2mab" in out
    assert "\x1b[2J" not in out


def test_a_model_in_place_of_a_bundle(
    capsys: Capture, data: Path, tmp_path: Path, bundle: Path
) -> None:
    pytest.importorskip("torch")
    assert "there is no model" in error_of(capsys, "data", data, "--bundle", tmp_path / "absent")
    assert "leave --seq out" in error_of(capsys, "data", data, "--bundle", bundle, "--seq", 32)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "data.jsonl:7: not JSON"),
        ('{"messages": []}', "a record of messages in a file of prompt + completion"),
    ],
)
def test_bad_data_is_one_line(
    capsys: Capture, bundle: Path, data: Path, line: str, reason: str
) -> None:
    with data.open("a") as file:
        file.write(line + "\n")
    assert reason in error_of(capsys, "data", data, "--bundle", bundle)


def test_train_takes_several_files_and_remembers_how_it_read_them(
    capsys: Capture, bundle: Path, data: Path
) -> None:
    notes = data.with_name("notes.md")
    notes.write_text("a note")
    run = data.with_name("run")
    arguments = [
        "train",
        bundle,
        "--data",
        data,
        "--data",
        notes,
        "--lr",
        "1e-3",
        "--run",
        run,
        "--packing",
    ]
    told = run_json(capsys, *arguments, "--steps", 2, "--validation", "0.3")
    lines = [line for line in told if "event" not in line]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[2]["validation_loss"] < lines[0]["validation_loss"]
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == [str(data), str(notes)]
    assert (config["packing"], config["mask_prompt"], config["validation"]) == (True, True, "0.3")
    assert "held_out_share was 3/10, is None" in error_of(capsys, *arguments, "--steps", 3)
    notes.write_text("another note")
    assert "data_sha256" in error_of(capsys, *arguments, "--steps", 3, "--validation", "0.3")


def test_eval_and_generate(capsys: Capture, bundle: Path, data: Path) -> None:
    (masked,) = run_json(capsys, "eval", bundle, "--data", data)
    (whole,) = run_json(capsys, "eval", bundle, "--data", data, "--no-mask-prompt")
    assert masked["tokens"] == 5 * 4 + 9
    assert whole["tokens"] > masked["tokens"]
    (line,) = run_json(
        capsys, "generate", bundle, "--prompt", "Hi", "--chat", "--system", "S", "--max-tokens", 99
    )
    assert line["text"].endswith("user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert "system\nS<" in line["text"]


def test_what_was_not_read_is_in_words_and_in_json(
    capsys: Capture, bundle: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mlx"
    folder.mkdir()
    record = '{"prompt": "a<end>", "completion": "b", "id": 1}\n{"prompt": "a", "completion": ""}\n'
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "README.md"):
        (folder / name).write_text(record)
    assert main(["data", str(folder), "--bundle", str(bundle)]) == 0
    out = capsys.readouterr().out
    for text in (
        "valid.jsonl: held out, for the name says so",
        "1 records with nothing to learn were left out (first train.jsonl:2: the completion",
        "1 held-out sequences are also trained on",
        "keys not used: id",
        "not read: files of the split test (1, first test.jsonl)",
        "control tokens in the text of 1 records: <end> 1",
    ):
        assert text in out
    (line,) = run_json(capsys, "data", folder, "--bundle", bundle)
    assert line["held_out_by_name"] == ["valid.jsonl"]
    assert (line["empty_records"], line["held_out_twice"], line["unused_keys"]) == (1, 1, {"id": 1})
    assert (line["control_tokens"], line["control_records"]) == ({"<end>": 1}, 1)
    assert line["not_read"] == {
        "cards and settings": {"count": 1, "first": "README.md"},
        "files of the split test": {"count": 1, "first": "test.jsonl"},
    }
    assert "the completion is empty" in error_of(
        capsys, "data", folder, "--bundle", bundle, "--strict"
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_a_console_of_any_encoding(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    data.write_text(json.dumps({"prompt": "ä猫", "completion": "🙂"}) + "\n")
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["data", str(data), "--bundle", str(bundle)]) == 0
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert "1 records (1 prompt)" in text
    assert ("🙂" in text) == (encoding == "utf-8")
    assert ("\\U0001f642" in text) == (encoding != "utf-8")


def test_the_split_of_a_directory_is_held_out_and_recorded(
    capsys: Capture, bundle: Path, data: Path, tmp_path: Path
) -> None:
    folder, run = tmp_path / "mlx", tmp_path / "run"
    folder.mkdir()
    for name in ("train.jsonl", "valid.jsonl"):
        (folder / name).write_text(data.read_text())
    arguments = ["train", bundle, "--data", folder, "--run", run, "--eval-every", 1, "--steps"]
    lines = run_json(capsys, *arguments, 2)
    assert any("validation_loss" in line for line in lines)
    config = json.loads((run / "config.json").read_text())
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert (config["data_sha256"], config["validation_sha256"]) == (digest, digest)
    (folder / "valid.jsonl").write_text(data.read_text() * 2)
    assert "validation_sha256" in error_of(capsys, *arguments, 3)


def test_standard_input_cannot_be_read_again(
    capsys: Capture, bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def piped() -> None:
        spool._spooled.cache_clear()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.read_bytes())))

    run = tmp_path / "run"
    piped()
    run_json(capsys, "train", bundle, "--data", "-", "--run", run, "--steps", 1)
    config = json.loads((run / "config.json").read_text())
    assert config["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert "cannot be read again" in error_of(capsys, "train", "--resume", run, "--steps", 2)
    piped()
    lines = run_json(capsys, "train", "--resume", run, "--data", "-", "--steps", 2)
    assert lines[-1]["step"] == 2

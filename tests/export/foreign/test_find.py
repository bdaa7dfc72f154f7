# SPDX-License-Identifier: Apache-2.0
"""The files of an adapter, wherever a user points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsqc.cli.main import main
from gsqc.errors import ExportError
from gsqc.export.foreign.find import find_adapter

SETTINGS = {
    "peft": {"peft_type": "LORA"},
    "mlx": {"fine_tune_type": "lora", "lora_parameters": {}},
}
WEIGHTS = {"peft": "adapter_model.safetensors", "mlx": "adapters.safetensors"}


def write(folder: Path, kind: str, *files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(SETTINGS[kind]))
    for name in files or (WEIGHTS[kind],):
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_directory_a_subfolder_or_the_file(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "out" / "one", kind)
    (tmp_path / "out" / "logs").mkdir()
    (tmp_path / "out" / "README.md").write_text("")
    weights = tmp_path / "out" / "one" / WEIGHTS[kind]
    for place in (tmp_path / "out" / "one", weights):
        found = find_adapter(place, kind, None)
        assert (found.weights, found.config, found.notes) == (weights, SETTINGS[kind], ())
    found = find_adapter(tmp_path / "out", kind, None)
    assert found.weights == weights and "subfolder one" in found.notes[0]
    assert find_adapter(tmp_path / "out", kind, "one").weights == weights


def test_one_of_several_checkpoints_has_to_be_chosen(tmp_path: Path) -> None:
    for step in range(10, 22):
        write(tmp_path / f"checkpoint-{step}", "peft")
    with pytest.raises(
        ExportError, match=r"holds 12 adapters: checkpoint-10, .*17 and 4 more"
    ) as e:
        find_adapter(tmp_path, "peft", None)
    assert f"--peft {tmp_path} --subfolder checkpoint-10" in e.value.hint
    found = find_adapter(tmp_path, "peft", "checkpoint-21")
    assert found.weights.parent.name == "checkpoint-21" and not found.notes


def test_a_checkpoint_of_mlx_is_taken_by_its_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "mlx", "mlx", "adapters.safetensors", "0000100_adapters.safetensors")
    file = folder / "0000100_adapters.safetensors"
    assert find_adapter(file, "mlx", None).weights == file


def refused(path: Path, kind: str) -> str:
    with pytest.raises(ExportError) as error:
        find_adapter(path, kind, None)
    return f"{error.value}; {error.value.hint}"


def test_an_adapter_of_another_program_names_the_option(tmp_path: Path) -> None:
    peft, mlx = write(tmp_path / "peft", "peft"), write(tmp_path / "mlx", "mlx")
    (tmp_path / "lora.gguf").write_bytes(b"GGUF")
    assert refused(mlx, "peft").endswith("that mlx_lm.lora wrote; give it with --mlx")
    assert refused(peft, "mlx").endswith("that PEFT's save_pretrained wrote; give it with --peft")
    assert refused(tmp_path / "lora.gguf", "peft").endswith("is a GGUF file; give it with --gguf")
    assert "is a directory; give the .gguf file" in refused(peft, "gguf")
    file = peft / "adapter_model.safetensors"
    assert refused(file, "gguf").endswith("is no GGUF file; give it with --peft or --mlx")


@pytest.mark.parametrize(
    ("kind", "file", "text"),
    [
        ("peft", "adapter_model.bin", "is a pickle, which may run any code"),
        ("mlx", "adapters.npz", "of an older mlx-lm"),
        ("mlx", "other.txt", "give the directory that mlx_lm.lora wrote"),
    ],
)
def test_weights_of_another_form(tmp_path: Path, kind: str, file: str, text: str) -> None:
    folder = write(tmp_path / "adapter", kind, file)
    assert text in refused(folder, kind) and f"has no {WEIGHTS[kind]}" in refused(folder, kind)
    expected = "a .safetensors file" if file == "other.txt" else text
    assert expected in refused(folder / file, kind)


def test_what_is_nowhere(tmp_path: Path) -> None:
    assert "has no adapter_config.json" in refused(tmp_path / "absent", "peft")
    assert "has no adapter_config.json" in refused(tmp_path, "mlx")
    alone = tmp_path / "adapter_model.safetensors"
    alone.write_bytes(b"")
    assert "has no adapter_config.json" in refused(alone, "peft")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "takes one adapter"),
        (["--peft", "a", "--mlx", "b"], "takes one adapter"),
        (["--gguf", "a", "--subfolder", "b"], "--subfolder is for a directory"),
    ],
)
def test_one_adapter_is_named(
    options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "absent.gsqc", "--run", str(tmp_path / "run"), *options]) == 2
    assert text in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""The kinds of models that gsqc compiles, and of adapters of other programs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.campaign import mutators, programs, readers
from tests.campaign.corpus import gguf_fields
from tests.campaign.kinds import Command, Kind, bundle_kinds, data_kinds, run_kinds
from tests.campaign.mutators import Mutator
from tests.campaign.readers import REAL, Reader

IMPORT: Command = ("import", REAL, "--run", "new")


def _model(name: str, file: str, change: Mutator, weight: float) -> Kind:
    """A file of a directory, or a model that is one file."""
    place = file.split("/")[0] if not file.endswith(".gguf") else file
    command = ("data", "data/a.jsonl", "--bundle", place)
    return Kind(name, file, change, (command,), (partial(readers.model, place),), weight)


def _program(name: str, file: str, change: Mutator, read: Reader) -> Kind:
    """A file whose graph is captured, which takes longer."""
    command = ("data", "data/a.jsonl", "--bundle", file)
    return Kind(name, file, change, (command,), (read,), 2)


def _adapter(kind: str, place: str, file: str, change: Mutator) -> Kind:
    command = (*IMPORT, f"--{kind}", place)
    reader = partial(readers.adapter, kind, place)
    path = file if place == file else f"{place}/{file}"
    commands = (command, (*command, "--any-base"))
    return Kind(f"{kind.upper()} {file}", path, change, commands, (reader,), 2)


def plain_kinds(corpus: Path) -> list[Kind]:
    """A directory of transformers and a GGUF file of llama.cpp, and adapters."""
    json_, safetensors = mutators.change_json, mutators.change_safetensors
    change_gguf = partial(mutators.change_gguf, fields=gguf_fields(corpus / "tiny.gguf"))
    change_lora = partial(mutators.change_gguf, fields=gguf_fields(corpus / "lora.gguf"))

    def model(file: str, change: Mutator, weight: float) -> Kind:
        return _model(f"HF {file}", f"model/{file}", change, weight)

    return [
        model("config.json", json_, 2),
        model("generation_config.json", json_, 1),
        model("tokenizer_config.json", json_, 1),
        model("tokenizer.json", json_, 1),
        model("chat_template.jinja", mutators.change_template, 0.5),
        model("model.safetensors", safetensors, 1),
        _model("GGUF", "tiny.gguf", change_gguf, 3),
        _program("ONNX", programs.ONNX, programs.change_onnx, programs.READ_ONNX),
        _program("PT2", programs.PT2, programs.change_pt2, programs.READ_PT2),
        _adapter("peft", "peft", "adapter_config.json", json_),
        _adapter("peft", "peft", "adapter_model.safetensors", safetensors),
        _adapter("mlx", "mlx", "adapter_config.json", json_),
        _adapter("mlx", "mlx", "adapters.safetensors", safetensors),
        _adapter("gguf", "lora.gguf", "lora.gguf", change_lora),
    ]


def garbage_kinds() -> list[Kind]:
    """Random bytes in place of the files of a model."""
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
    files = [*(f"model/{name}" for name in (*names, "model.safetensors")), "tiny.gguf"]
    return [_model(f"garbage in {file}", file, mutators.garbage, 1) for file in files]


def further_kinds(corpus: Path) -> list[Kind]:
    """The files of `model_corpus`. None of them if the corpus is without."""
    if not (corpus / "gguf").is_dir():
        return []
    from tests.campaign.adapter_kinds import adapter_kinds
    from tests.campaign.classifier_kinds import classifier_kinds
    from tests.campaign.model_corpus import EXPERTS, PART, architectures

    def gguf(name: str, file: str, weight: float) -> Kind:
        change = partial(mutators.change_gguf, fields=gguf_fields(corpus / file))
        return _model(name, file, change, weight)

    json_, any_bytes = mutators.change_json, mutators.change_bytes

    def experts(place: str, file: str, change: Mutator) -> Kind:
        command = ("data", "data/a.jsonl", "--bundle", place)
        read = programs.captured(place)
        return Kind(f"experts {place}/{file}", f"{place}/{file}", change, (command,), (read,))

    return [
        *classifier_kinds(),
        *adapter_kinds(),
        *(experts(place, "config.json", json_) for place in EXPERTS),
        *(experts(place, "model.safetensors", mutators.change_safetensors) for place in EXPERTS),
        *(gguf(f"architecture {n}", f"gguf/{n}.gguf", 0.25) for n in architectures()),
        *(gguf(f"part {n} of a GGUF", PART.format(n), 0.5) for n in (1, 2)),
        gguf("SentencePiece in GGUF", "spm.gguf", 1),
        _model("seen config.json", "seen/config.json", json_, 1),
        _model("seen model.safetensors", "seen/model.safetensors", mutators.change_safetensors, 1),
        # Each starts transformers in a process of its own, which takes seconds.
        _model("older vocab.json", "older/vocab.json", json_, 0.02),
        _model("older merges.txt", "older/merges.txt", any_bytes, 0.02),
        replace(
            _model("older tokenizer.model", "sentences/tokenizer.model", any_bytes, 0.02),
            accepts=False,
        ),
    ]


def all_kinds(corpus: Path) -> list[Kind]:
    """Every kind, in a fixed order."""
    ours = [*bundle_kinds(), *run_kinds(), *data_kinds()]
    return [*ours, *plain_kinds(corpus), *garbage_kinds(), *further_kinds(corpus)]

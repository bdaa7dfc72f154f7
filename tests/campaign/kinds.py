# SPDX-License-Identifier: Apache-2.0
"""The kinds of files that the Python runtime reads, how each is changed, and what reads it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.campaign import mutators, readers
from tests.campaign.corpus import TEMPLATE, TRAIN, VALIDATION
from tests.campaign.mutators import Mutator
from tests.campaign.readers import REAL, SMALL, Reader

Command = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A file of the corpus, how it is changed, and the commands that read it.

    readers  functions that read it too
    weight   share of the cases. What is slow gets few.
    fake     whether the session is the one of tests, whose steps cost nothing
    accepts  whether the file as it is leads to success
    """

    name: str
    file: str
    change: Mutator
    commands: tuple[Command, ...]
    readers: tuple[Reader, ...] = ()
    weight: float = 1.0
    fake: bool = False
    accepts: bool = True
    write: Callable[[Path, bytes], object] = Path.write_bytes


def write_known(path: Path, content: bytes) -> None:
    """Write a file of a bundle together with its hash in the manifest, as an attacker would."""
    (root,) = (p for p in path.parents if p.suffix == ".gsqc")
    manifest = json.loads((root / "manifest.json").read_bytes())
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"][path.relative_to(root).as_posix()] |= entry
    (root / "manifest.json").write_text(json.dumps(manifest))
    path.write_bytes(content)


def write_template(path: Path, content: bytes) -> None:
    """Write a manifest with this chat template."""
    manifest = json.loads(path.read_bytes())
    manifest["model"]["chat_template"] = content.decode("utf-8", "surrogateescape")
    path.write_text(json.dumps(manifest))


def change_template_only(_: bytes, rng: random.Random) -> bytes:
    """The corpus's template with a change, whatever the file is that holds it."""
    return mutators.change_template(TEMPLATE.encode(), rng)


def train(bundle: str, run: str = "new") -> Command:
    """A run of two steps."""
    return ("train", bundle, *TRAIN, *VALIDATION, "--run", run)


CHATS: Command = ("data", "data/chats.jsonl", "--bundle", SMALL)
OPENS: tuple[Command, ...] = (
    *(("inspect", SMALL), CHATS, train(SMALL), ("check", SMALL, "--steps", "1")),
    ("tokens", SMALL, *TRAIN, "-o", "new.safetensors"),
    ("generate", SMALL, "--prompt", "a", "--max-tokens", "2"),
    ("eval", SMALL, "--data", "data/a.jsonl"),
)
"""Commands that open the small bundle."""
RUNS: tuple[Command, ...] = (
    *(train(REAL, "run"), ("train", "--resume", "run"), ("report", "run", "--no-measure")),
    *(("compare", "run", "run"), ("report", "run", "--bundle", REAL, "--no-measure")),
    ("eval", REAL, "--data", "data/a.jsonl", "--run", "run"),
    ("generate", REAL, "--prompt", "a", "--max-tokens", "1", "--run", "run", "--best"),
    ("export", REAL, "--run", "run", "--peft", "new"),
)
STEPS: tuple[Command, ...] = (
    *(("inspect", REAL), ("eval", REAL, "--data", "data/a.jsonl"), train(REAL)),
    ("generate", REAL, "--prompt", "a", "--max-tokens", "2", "--temperature", "0.7"),
    *(("check", REAL, "--steps", "1"), ("export", REAL, "--run", "run", "--peft", "new")),
)
"""Commands that run the code of the real bundle."""
TRUST: Command = ("trust", SMALL, "--yes")
RESUME: Command = ("train", "--resume", "run")


def bundle_kinds() -> list[Kind]:
    """The files of a bundle: as they are, and with hashes that the manifest knows."""
    json_, safetensors = mutators.change_json, mutators.change_safetensors
    small, real = (readers.open_small,), (readers.step_real,)
    plan, template = f"{SMALL}/plan.json", f"{SMALL}/manifest.json"

    def known(name: str, file: str, change: Mutator, weight: float) -> Kind:
        return Kind(name, f"{REAL}/{file}", change, STEPS, real, weight, write=write_known)

    return [
        Kind("manifest", f"{SMALL}/manifest.json", json_, OPENS, small, 3, True),
        Kind("manifest, code runs", f"{REAL}/manifest.json", json_, STEPS, real, 1),
        Kind("plan", plan, json_, OPENS, small, 1, True, write=write_known),
        known("plan, code runs", "plan.json", json_, 1),
        known("base", "base.safetensors", safetensors, 1),
        known("initial state", "state.safetensors", safetensors, 1),
        Kind("file whose hash differs", plan, json_, OPENS, small, 0.2, True),
        Kind(
            "tokenizer", f"{SMALL}/tokenizer.json", json_, OPENS, small, 3, True, write=write_known
        ),
        Kind(
            *("chat template", template, change_template_only, (CHATS,)),
            *(((partial(readers.data, "data/chats.jsonl"),)), 0.2, True),
            write=write_template,
        ),
    ]


def run_kinds() -> list[Kind]:
    """The files of a run."""
    safetensors, run = mutators.change_safetensors, (readers.open_run,)
    trusted = "state/gsqc/trusted-code.txt"
    toml = (RESUME, ("train", "--config", "run/config.toml", "--run", "new"))
    reads = (partial(readers.settings, "run/config.toml"),)
    return [
        Kind("config.json", "run/config.json", mutators.change_json, RUNS, run, 2),
        Kind("config.toml", "run/config.toml", mutators.change_text, toml, reads, 2),
        Kind("log.jsonl", "run/log.jsonl", mutators.change_jsonl, RUNS, run, 2),
        Kind("state", "run/state.safetensors", safetensors, RUNS, run, 2),
        Kind("trusted code", trusted, mutators.change_bytes, (RESUME, TRUST), weight=0.5),
        Kind("best state", "run/best.safetensors", safetensors, RUNS, run, 1),
    ]


def data_kinds() -> list[Kind]:
    """What people train on, and what they write by hand."""
    jsonl, json_, any_bytes = mutators.change_jsonl, mutators.change_json, mutators.change_bytes

    def reads(name: str, change: Mutator, weight: float, file: str = "", start: str = "") -> Kind:
        more: tuple[Command, ...] = ((), ("--packing",), ("--no-mask-prompt",))
        commands = tuple(("data", file or name, "--bundle", SMALL, *m) for m in more)
        kind = f"data {name}"
        return Kind(kind, name, change, commands, readers.data_readers(file or name), weight)

    check: Command = ("check", REAL, "--golden", "golden.json")
    compiles = (("compile", "--config", "compile.toml"),)
    settings = (partial(readers.settings, "compile.toml"),)
    text = mutators.change_text
    return [
        reads("data/a.jsonl", jsonl, 3),
        reads("data/chats.jsonl", jsonl, 1),
        reads("data/sharegpt.jsonl", jsonl, 1),
        reads("data/alpaca.jsonl", jsonl, 1),
        reads("data/chats.json", json_, 1),
        reads("data/text.txt", any_bytes, 1),
        reads("data/notes.md", any_bytes, 1),
        reads("saved/dataset_info.json", json_, 0.5, "saved"),
        reads("saved/state.json", json_, 0.5, "saved"),
        reads("saved/data-00000-of-00001.arrow", any_bytes, 0.5, "saved"),
        Kind("golden", "golden.json", json_, (check, (*check, "--update")), (readers.golden,), 2),
        Kind("compile.toml", "compile.toml", text, compiles, settings, 2, accepts=False),
    ]

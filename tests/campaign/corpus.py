# SPDX-License-Identifier: Apache-2.0
"""A small valid file of every kind that gsqc reads, made by gsqc's own commands.

Everything lies in one directory and is named relative to it, so that a copy is as good.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

from gsqc.cli.main import main
from tests.campaign.programs import write_programs
from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer, manifest, write_bundle

TEMPLATE = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PROMPTS = [{"prompt": f"ab{k}", "completion": f"cd{k * k}"} for k in range(7)]
TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "é"}]
ANSWER = {"role": "assistant", "content": "b"}
CHATS = [{"messages": [*TURNS, ANSWER], "tools": [{"name": "t"}]}, {"messages": [TURNS[1], ANSWER]}]
SHAREGPT = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 3
ALPACA = [{"instruction": "i", "input": "j", "output": "k"}, {"instruction": "i", "output": "k"}]
RECORDS = {"a": PROMPTS, "chats": CHATS, "sharegpt": SHAREGPT, "alpaca": ALPACA}
TRAIN = ["--data", "data/a.jsonl", "--steps", "2", "--lr", "1e-2"]
VALIDATION = ["--validation", "30%", "--eval-every", "1"]
COMPILE = """[compile]
model = "nowhere"
output = "new.gsqc"
target = "numpy"
bits = "4-8-8"
adapter = "lora:rank=4,alpha=8"
optimizer = "adamw"
seq = 16
batch = 2
seed = 1
"""


FURTHER = (
    *("gguf", "parts", "seen", "older", "sentences", "spm.gguf", "mixtral", "qwen3_moe"),
    *("encoder", "headless", "labelled", "classifier.gsqc", "classified", "adapters"),
)
"""What `model_corpus` writes. Only changed files are read from there."""


def write_model(folder: Path) -> None:
    """A Llama of one layer as `save_pretrained` leaves it, with tokenizer and chat template.

    The tokenizer has a merge, without which llama.cpp reads no file.
    """
    from tests.models.capture.tiny import tiny_llama

    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = tiny_llama(vocab_size=VOCABULARY + 1, eos_token_id=END + 1, **sizes, **heads)
    model.save_pretrained(folder)
    tokenizer = json.loads(byte_tokenizer().to_str())
    tokenizer["model"]["vocab"]["ab"], tokenizer["model"]["merges"] = END, [["a", "b"]]
    tokenizer["added_tokens"][0]["id"] = END + 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    named = [{"name": "default", "template": TEMPLATE}, {"name": "tools", "template": "x"}]
    config = {"chat_template": named, "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def write_data(folder: Path) -> None:
    """Records of each shape, in each form of file."""
    folder.mkdir()
    for name, records in RECORDS.items():
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines)
    (folder / "chats.json").write_text(json.dumps(CHATS))
    (folder / "text.txt").write_text("The rain in Spain stays mainly in the plain.\n" * 9)
    (folder / "notes.md").write_text("# Notes\n\nOne é two.\n\n## More\n\nThree.\n" * 9)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a directory for a while. It holds the record of code that is trusted, too."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(folder.absolute() / "state")}):
            yield
    finally:
        os.chdir(before)


def gsqc(*arguments: str) -> None:
    """Run a command that must succeed."""
    code = main(arguments)
    assert code == 0, (arguments, code)


def build(root: Path, *, whole: bool = False) -> Path:
    """Write the corpus into a new directory, or take the one that is there.

    whole  whether it has the models of `model_corpus`, which take more time
    """
    if (root / "complete").is_file() and (not whole or (root / "gguf").is_dir()):
        return root
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with inside(root):
        write_model(Path("model"))
        write_data(Path("data"))
        _write_with_gsqc()
        _write_saved_dataset()
        _write_gguf()
        write_programs(Path("model/tokenizer.json"))
        if whole:
            from tests.campaign.model_corpus import write_models

            write_models(Path())
        Path("compile.toml").write_text(COMPILE)
        Path("complete").touch()
    return root


def _write_with_gsqc() -> None:
    adapter = "lora:rank=4,alpha=8,linears=q"
    model = replace(manifest().model, chat_template=TEMPLATE)
    write_bundle(Path("small.gsqc"), model=model, sequence_length=256)
    gsqc(
        "compile",
        "model",
        "-o",
        "b.gsqc",
        "--adapter",
        adapter,
        "--seq",
        "16",
        "--batch",
        "2",
        "--runner",
        "--pass",
        "dropbp:rate=0.1",
        "--pass",
        "lorc:rank=2",
    )
    gsqc("train", "b.gsqc", *TRAIN, *VALIDATION, "--run", "run")
    gsqc("tokens", "b.gsqc", *TRAIN, "-o", "tokens.safetensors")
    (step,) = Path("b.gsqc").glob("code/*/gsqc-step")
    steps = [
        str(step),
        "b.gsqc",
        "--tokens",
        "tokens.safetensors",
        "--run",
        "steps",
        "--steps",
        "1",
    ]
    subprocess.run(steps, check=True, capture_output=True)
    gsqc(
        "export", "b.gsqc", "--run", "run", "--peft", "peft", "--mlx", "mlx", "--gguf", "lora.gguf"
    )
    gsqc("check", "b.gsqc", "--golden", "golden.json", "--update")


def _write_saved_dataset() -> None:
    from datasets import Dataset

    Dataset.from_list(PROMPTS).save_to_disk("saved")


def _write_gguf() -> None:
    from tests.export.tiny_gguf import write_tiny_gguf

    write_tiny_gguf(Path("tiny.gguf"))


def gguf_fields(path: Path) -> list[tuple[int, int]]:
    """The place and the size of each part of a GGUF file's header."""
    import gguf

    reader = gguf.GGUFReader(path)
    start = reader.data.ctypes.data
    parts = [part for field in reader.fields.values() for part in field.parts]
    parts += [part for tensor in reader.tensors for part in tensor.field.parts]
    places = [(part.ctypes.data - start, part.nbytes) for part in parts if part.nbytes]
    return [place for place in places if place[1] < 64 and 0 <= place[0] < reader.data.nbytes]

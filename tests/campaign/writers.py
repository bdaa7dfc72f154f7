# SPDX-License-Identifier: Apache-2.0
"""Every command that writes, and what it writes in the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from tests.campaign.corpus import TRAIN

STEPS = 6
PAGES = ("out/page.html",)
MORE = [*TRAIN[:2], "--steps", str(STEPS), *TRAIN[4:], "--save-every", "1"]


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    arguments  of gsqc, or of gsqc-step if `program` is set
    outputs    what it writes, each replaced as a whole
    before     commands that come first, so that something stands at the outputs already
    slow       whether the short form leaves it out
    """

    name: str
    arguments: list[str]
    outputs: tuple[str, ...]
    before: tuple[list[str], ...] = ()
    program: bool = False
    slow: bool = False

    @property
    def trains(self) -> bool:
        """Whether it goes on after a kill, in place of beginning anew."""
        return self.arguments[0] == "train" or self.program


def writers(step: str) -> list[Writer]:
    """Every command that writes. `step` is the path of gsqc-step."""
    peft = ["export", "b.gsqc", "--run", "run", "--peft", "out/peft", "--force"]
    gguf = ["export", "b.gsqc", "--run", "run", "--gguf", "out/a.gguf", "--force"]
    export = ["export", "b.gsqc", "--run", "run", "--model", "model", "--force"]
    merged, onnx = [*export, "--merged", "out/m"], [*export, "--onnx", "out/m.onnx"]
    merged_gguf = [*export, "--merged", "out/m.gguf"]
    made = ["model", "-o", "out/c.gsqc", "--target", "numpy", "--adapter", "lora:rank=2,linears=q"]
    compiles = ["compile", *made, "--seq", "8", "--force"]
    train = ["train", "b.gsqc", *MORE, "--run", "new", "--threads", "1"]
    steps = [step, "b.gsqc", "--tokens", "long.safetensors", "--run", "new", "--save-every", "1"]
    report = ["report", "run", "-o", "out/page.html", "--no-measure", "--force"]
    compare = ["compare", "run", "run", "-o", "out/page.html", "--force"]
    golden = ["check", "b.gsqc", "--golden", "out/golden.json", "--update", "--steps", "1"]
    retarget = ["retarget", "b.gsqc", "--target", "numpy"]
    tokens = ["tokens", "b.gsqc", *TRAIN, "-o", "out/t.safetensors"]
    long = ["tokens", "b.gsqc", *MORE[:-2], "-o", "long.safetensors"]
    again = ["tokens", "b.gsqc", "--data", "data/text.txt", *TRAIN[2:], "-o", "out/t.safetensors"]
    init = ["init", "out.toml", "--force"]
    imported = ["import", "b.gsqc", "--peft", "peft", "--run", "new"]
    return [
        Writer("train", train, ("new",)),
        Writer("gsqc-step", [*steps, "--threads", "1"], ("new",), (long,), program=True),
        Writer("retarget", retarget, ("b.gsqc",)),
        Writer("retarget -o", [*retarget, "-o", "out/n.gsqc"], ("out/n.gsqc",), slow=True),
        Writer("export --peft", peft, ("out/peft",)),
        Writer("export --peft, over another", peft, ("out/peft",), (peft,)),
        Writer("export --gguf", gguf, ("out/a.gguf",), (gguf,), slow=True),
        Writer("export --merged, directory", merged, ("out/m",), (merged,), slow=True),
        Writer("export --merged, GGUF", merged_gguf, ("out/m.gguf",), (merged_gguf,), slow=True),
        Writer("export --onnx", onnx, ("out/m.onnx", "out/m.onnx.data"), (onnx,), slow=True),
        Writer("compile", compiles, ("out/c.gsqc",), (compiles,), slow=True),
        Writer("trust", ["trust", "small.gsqc", "--yes"], ("state/gsqc/trusted-code.txt",)),
        Writer("report", report, PAGES, (compare,)),
        Writer("compare", compare, PAGES, (report,)),
        Writer("tokens", tokens, ("out/t.safetensors",), (again,)),
        Writer("init", init, ("out.toml",), (init,)),
        Writer("check --update", golden, ("out/golden.json",), (golden,)),
        Writer("import", imported, ("new/state.safetensors",)),
    ]

# SPDX-License-Identifier: Apache-2.0
"""gsqc export: writes the trained adapter, or the merged model, for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.output import Output
from gsqc.cli.shared import BestOption, JsonOption
from gsqc.data.prompt import PromptOptions
from gsqc.errors import OptionError
from gsqc.export.adapter import TrainedAdapter, read_adapter
from gsqc.export.floats import FLOAT_TYPES
from gsqc.export.gguf import GGUF_TYPES, write_gguf_model
from gsqc.export.hf_model import write_hf_model
from gsqc.export.llama_cpp import write_gguf_adapter
from gsqc.export.merge import BASES, MergedWeights, open_base
from gsqc.export.mlx import write_mlx
from gsqc.export.onnx_model import data_of, write_onnx_model
from gsqc.export.peft import write_peft
from gsqc.export.place import check_place
from gsqc.export.prompts import TEMPLATE_FILE, TrainedPrompts, trained_prompts, write_chat_template
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.option import Option, check_options, option
from gsqc.runtime.store import BEST, STATE, RunStore

PLACES, MERGED = "What to write", "Merged models"


def base_name_of(bundle: Bundle) -> str:
    """The name of the bundle's model on the hub, or else in its files."""
    model = bundle.manifest.model
    known = KNOWN_MODELS.get(model.known_name or "")
    return known.hub_name if known else model.name or ""


@dataclass(frozen=True)
class ExportOptions:
    """What to write, and how. Raises OptionError if options do not fit together."""

    peft: Path | None = option(None, help="Write the adapter as a PEFT directory.", group=PLACES)
    gguf: Path | None = option(
        None, help="Write the adapter as a GGUF file for llama.cpp.", group=PLACES
    )
    mlx: Path | None = option(
        None, help="Write the adapter as an MLX directory, for mlx-lm.", group=PLACES
    )
    merged: Path | None = option(
        None, help="Write the merged model: a directory, or NAME.gguf.", group=PLACES
    )
    onnx: Path | None = option(
        None,
        help="Write the merged model as ONNX: NAME.onnx and NAME.onnx.data.",
        group=PLACES,
    )
    chat_template: Path | None = option(
        None,
        help="Write the chat template that makes the form of the run's prompts, for llama.cpp's "
        "--chat-template-file or vLLM's --chat-template.",
        group=PLACES,
    )
    model: str | None = option(
        None,
        help="The model that was compiled: a known name, a directory or a .gguf file.",
        group=MERGED,
    )
    base: str = option(
        "trained",
        help="Weights to merge with: those of the training, or the model's original ones.",
        group=MERGED,
        choices=BASES,
    )
    dtype: str | None = option(
        None,
        help="Number type of --merged. Without it, f32 for a directory and f16 for .gguf.",
        group=MERGED,
        choices=tuple(dict.fromkeys((*FLOAT_TYPES, *GGUF_TYPES))),
    )
    base_name: str | None = option(
        None, help="Name or path of the base model in adapter_config.json."
    )
    force: bool = option(False, help="Overwrite what an earlier export wrote.")

    def __post_init__(self) -> None:
        """Check all that can be checked before a file is read."""
        check_options(self)
        if not any((self.peft, self.gguf, self.mlx, self.merged, self.onnx, self.chat_template)):
            raise OptionError(
                "nothing to export",
                "say what to write: --peft DIR, --gguf FILE, --mlx DIR, --merged DIR or "
                "--onnx FILE",
            )
        if self.dtype is not None and self.merged is None:
            raise OptionError(
                "--dtype is for a merged model", "add --merged DIR, or leave --dtype out"
            )
        known = tuple(GGUF_TYPES) if self.is_gguf else tuple(FLOAT_TYPES)
        if self.number_type not in known:
            place = "a .gguf file" if self.is_gguf else "a directory"
            raise OptionError(
                f"--dtype {self.dtype} is not for {place}", f"{place} takes {' or '.join(known)}"
            )

    @property
    def is_gguf(self) -> bool:
        """Whether the merged model is a GGUF file."""
        return self.merged is not None and self.merged.suffix.lower() == ".gguf"

    @property
    def number_type(self) -> str:
        """The number type of the merged weights."""
        return self.dtype or ("f16" if self.is_gguf else "f32")

    def check_places(self) -> None:
        """OptionError or ExportError if two results share a place, or a place is taken."""
        places = [("--peft", self.peft, True), ("--gguf", self.gguf, False)]
        places += [("--mlx", self.mlx, True)]
        places += [("--merged", self.merged, not self.is_gguf), ("--onnx", self.onnx, False)]
        places += [("--onnx", data_of(self.onnx) if self.onnx else None, False)]
        places += [("--chat-template", self.chat_template, False)]
        given = [place.absolute() for _, place, _ in places if place is not None]
        if len(set(given)) < len(given):
            raise OptionError("two exports go to the same place", "give each its own name")
        for name, place, directory in places:
            if place is not None:
                check_place(place, force=self.force, option=name, directory=directory)


def export(
    bundle: Annotated[
        Path, Option("The bundle that the run was made with, for any machine.", is_argument=True)
    ],
    run: Annotated[Path, Option("Directory of the run.")],
    chosen: ExportOptions,
    asked: Annotated[PromptOptions, OptionsOf(PromptOptions, has=lambda o: o.field != "input")],
    best: BestOption = False,
    json: JsonOption = False,
) -> None:
    """Write what a run has learned in the formats of other programs.

    Their chat template makes the form that the run's data gave its prompts.
    """
    chosen.check_places()
    opened = Bundle.open(bundle)
    adapter = read_adapter(opened, run, BEST if best else STATE)
    prompts = trained_prompts(opened, asked, RunStore(run, opened).data_form)
    name = chosen.base_name or base_name_of(opened)
    export_to = _Exporter(Output(json), opened, adapter, name, prompts)
    export_to.adapter_files(chosen)
    if chosen.merged is not None or chosen.onnx is not None:
        with export_to.out.console.status("merging"):
            export_to.merged_files(chosen)
    export_to.tell_of_prompts(chosen)


@dataclass(frozen=True)
class _Exporter:
    """Writes the chosen files and says so.

    name     the base model's name for others
    prompts  the form of the run's prompts
    """

    out: Output
    bundle: Bundle
    adapter: TrainedAdapter
    name: str
    prompts: TrainedPrompts

    def adapter_files(self, chosen: ExportOptions) -> None:
        """Write the adapter alone, for PEFT, llama.cpp and mlx-lm."""
        about = _described(self.adapter)
        if chosen.peft is not None:
            write_peft(self.adapter, self.name, chosen.peft, self.prompts)
            self._tell("peft", chosen.peft, f"{about}, base {self.name}")
        if chosen.gguf is not None:
            template = self.prompts.template
            write_gguf_adapter(self.bundle, self.adapter, self.name, chosen.gguf, template)
            self._tell("gguf", chosen.gguf, about)
        if chosen.mlx is not None:
            write_mlx(self.adapter, self.name, chosen.mlx, self.prompts)
            self._tell("mlx", chosen.mlx, f"{about}, base {self.name}")
        if chosen.chat_template is not None:
            write_chat_template(self.prompts, chosen.chat_template)
            self._tell("chat_template", chosen.chat_template, "a chat template")

    def merged_files(self, chosen: ExportOptions) -> None:
        """Write the base with the adapter merged into it."""
        loaded, source = open_base(self.bundle, chosen.model)
        weights = MergedWeights(self.bundle, loaded, self.adapter, chosen.base)
        what = f"{self.name} and its adapter in one"
        if chosen.merged is not None:
            to = (weights, source, chosen.merged, chosen.number_type)
            if chosen.is_gguf:
                write_gguf_model(*to, self.prompts.template, self.name)
            else:
                write_hf_model(*to, self.prompts, self.name)
            self._tell("merged", chosen.merged, f"{what}, {chosen.number_type}")
        if chosen.onnx is not None:
            write_onnx_model(weights, chosen.onnx)
            parts = f"{what}, f32, weights in {data_of(chosen.onnx).name}"
            self._tell("onnx", chosen.onnx, parts)

    def tell_of_prompts(self, chosen: ExportOptions) -> None:
        """Say which form prompts have to have, and where another program has to be told."""
        self.out.say(self.prompts.told)
        if self.prompts.form.system is not None:
            self.out.say(f"system text of the data: {self.prompts.form.system}")
        if chosen.gguf is not None and self.prompts.template is not None:
            self.out.say(
                "llama.cpp takes the base's chat template: write this one with --chat-template "
                "FILE, and give it with --chat-template-file"
            )
        if chosen.mlx is not None and self.prompts.template is not None:
            self.out.say(
                "mlx-lm takes the base's chat template: put the text of "
                f"{chosen.mlx / TEMPLATE_FILE} behind mlx_lm.server --chat-template"
            )

    def _tell(self, option: str, place: Path, what: str) -> None:
        self.out.say(f"wrote {place}: {what}")
        numbers = {"steps": self.adapter.steps, "rounded": self.adapter.rounded}
        form = self.prompts.form
        about = {"form": form.form, "system": form.system, "notes": [self.prompts.told]}
        self.out.emit({option: str(place), "base": self.name, **numbers, **about})


def _described(adapter: TrainedAdapter) -> str:
    numbers = sum(p.size for p in adapter.numbers())
    rounded = f"{adapter.rounded} of them rounded to float32"
    exact = "all exact in float32" if adapter.rounded == 0 else rounded
    return (
        f"{adapter.settings.describe()}: {numbers:,} numbers after {adapter.steps} steps, {exact}"
    )

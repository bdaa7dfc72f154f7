# SPDX-License-Identifier: Apache-2.0
"""gsqc export: writes the trained adapter, or the merged model, for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.command import OptionsOf
from gsqc.cli.export_options import ExportOptions
from gsqc.cli.output import Output
from gsqc.cli.shared import BestOption, JsonOption
from gsqc.data.prompt import PromptOptions
from gsqc.errors import OptionError
from gsqc.export.adapter import TrainedAdapter, read_adapter
from gsqc.export.classifier_head import SavedHead, saved_head
from gsqc.export.gguf import write_gguf_model
from gsqc.export.hf_model import write_hf_model
from gsqc.export.llama_cpp import write_gguf_adapter
from gsqc.export.merge import MergedWeights, open_base
from gsqc.export.mlx import write_mlx
from gsqc.export.onnx_model import data_of, write_onnx_model
from gsqc.export.peft import write_peft
from gsqc.export.prompts import TEMPLATE_FILE, TrainedPrompts, trained_prompts, write_chat_template
from gsqc.models.catalogue import KNOWN_MODELS
from gsqc.option import Option
from gsqc.runtime.store import BEST, STATE, RunStore


def base_name_of(bundle: Bundle) -> str:
    """The name of the bundle's model on the hub, or else in its files."""
    model = bundle.manifest.model
    known = KNOWN_MODELS.get(model.known_name or "")
    return known.hub_name if known else model.name or ""


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
    _require_for_classifier(opened, chosen, asked)
    adapter = read_adapter(opened, run, BEST if best else STATE)
    prompts = trained_prompts(opened, asked, RunStore(run, opened).data_form)
    name = chosen.base_name or base_name_of(opened)
    export_to = _Exporter(Output(json), opened, adapter, name, prompts)
    export_to.adapter_files(chosen)
    if export_to.needs_base(chosen):
        with export_to.out.console.status("merging"):
            export_to.merged_files(chosen)
    export_to.tell_of_prompts(chosen)


def _require_for_classifier(bundle: Bundle, chosen: ExportOptions, asked: PromptOptions) -> None:
    """OptionError for what a classifier is not exported as."""
    others = (chosen.gguf, chosen.mlx, chosen.onnx, chosen.chat_template)
    is_other = any(others) or chosen.is_gguf or asked != PromptOptions()
    if bundle.manifest.model.labels is not None and is_other:
        raise OptionError(
            "a classifier is exported as a directory, for transformers or PEFT",
            "write the merged model, --merged DIR --model MODEL, or its adapter, --peft DIR "
            "--model MODEL",
        )


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

    @property
    def classifies(self) -> bool:
        """Whether the bundle is a classifier, whose head PEFT stores whole."""
        return self.bundle.manifest.model.labels is not None

    def needs_base(self, chosen: ExportOptions) -> bool:
        """Whether the base's own weights are a part of what is written."""
        has_head = self.classifies and chosen.peft is not None
        return has_head or chosen.merged is not None or chosen.onnx is not None

    def adapter_files(self, chosen: ExportOptions) -> None:
        """Write the adapter alone, for PEFT, llama.cpp and mlx-lm."""
        about = _described(self.adapter)
        if chosen.peft is not None and not self.classifies:
            self._write_peft(chosen.peft, None)
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
        """Write the base with the adapter merged into it, or a classifier's head alone so."""
        loaded, source = open_base(self.bundle, chosen.model)
        weights = MergedWeights(self.bundle, loaded, self.adapter, chosen.base)
        if chosen.peft is not None and self.classifies:
            self._write_peft(chosen.peft, saved_head(self.bundle, weights))
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

    def _write_peft(self, path: Path, head: SavedHead | None) -> None:
        write_peft(self.adapter, self.name, path, self.prompts, head)
        self._tell("peft", path, f"{_described(self.adapter)}, base {self.name}")

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
    return f"{adapter.describe()}: {numbers:,} numbers after {adapter.steps} steps, {exact}"

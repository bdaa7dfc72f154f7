# SPDX-License-Identifier: Apache-2.0
"""A classifier's adapter in PEFT: its layers as LoRA, its head whole."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers

from gsqc.adapters.linears import names_of_linears
from gsqc.adapters.lora import Lora
from gsqc.bundle.base import in_first_layer, in_layer
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AdapterPart, ModelPart
from gsqc.data.prompt import PromptForm
from gsqc.errors import ExportError
from gsqc.export.adapter import LinearAdapter, TrainedAdapter
from gsqc.export.classifier_head import saved_head
from gsqc.export.merge import MergedWeights
from gsqc.export.peft import peft_files, write_peft
from gsqc.export.prompts import TrainedPrompts
from gsqc.models import LoadedModel, load_classifier
from tests.encoders import CLASSES, ENCODERS, HIDDEN, LAYERS, VOCABULARY, build_encoder
from tests.runtime.small_bundle import write_bundle

RANK, ALPHA = 4, 8
LABELS = tuple("abc")
HEADS = {
    "bert": (["pooler", "classifier"], "bert.pooler.dense.bias"),
    "roberta": (["classifier"], "classifier.out_proj.weight"),
    **dict.fromkeys(
        ("modernbert", "modernbert-mean"), (["head", "classifier"], "head.norm.weight")
    ),
    "distilbert": (["pre_classifier", "classifier"], "pre_classifier.weight"),
}
"""What is in modules_to_save, and a tensor of that."""


def _linears(loaded: LoadedModel) -> list[str]:
    """The modules of layer 0 and of the head, as a bundle's manifest lists them."""
    named = loaded.module.named_modules()
    names = [name for name, part in named if isinstance(part, torch.nn.Linear)]
    return [n for n in names if in_first_layer(n) == n]


def _bundle(path: Path, name: str, linears: list[str]) -> Bundle:
    sizes = (LAYERS, HIDDEN, 4, 4, VOCABULARY)
    write_bundle(
        path,
        model=ModelPart(name, *sizes, labels=LABELS),
        base_kinds={f"{module}.weight": "nf4" for module in linears},
        adapter=AdapterPart("lora", {"rank": RANK, "alpha": ALPHA}, ("query",), {}),
    )
    return Bundle.open(path)


def _adapter(loaded: LoadedModel, name: str, linears: list[str], layers: int) -> TrainedAdapter:
    """Random matrices for the linears of all layers and of the head."""
    rng, found = np.random.default_rng(7), []
    head = [n for n in linears if in_layer(n, 1) == n]
    inner = [n for n in linears if n not in head]
    for layer in (*range(layers), LAYERS):
        modules = head if layer == LAYERS else inner
        for module, short in zip(modules, names_of_linears(modules), strict=True):
            place = in_layer(module, layer)
            rows, columns = loaded.module.get_submodule(place).weight.shape
            matrices = {
                part: rng.integers(-(2**23), 2**23, shape, np.int32)
                for part, shape in (("a", (RANK, columns)), ("b", (rows, RANK)))
            }
            found.append(LinearAdapter(Lora(RANK, ALPHA), place, layer, short, matrices))
    return TrainedAdapter(tuple(found), 3, name)


@pytest.mark.parametrize("name", ENCODERS)
def test_peft_gives_the_logits_of_the_merged_model(name: str, tmp_path: Path) -> None:
    """On the base's weights: both in float32, added in another order. Measured: 3e-7."""
    model = tmp_path / "model"
    build_encoder(name).save_pretrained(model)
    loaded = load_classifier(str(model), LABELS)
    linears = _linears(loaded)
    bundle = _bundle(tmp_path / "b.gsqc", name, linears)
    adapter = _adapter(loaded, name, linears, LAYERS)
    merged = MergedWeights(bundle, loaded, adapter, "original")
    head = saved_head(bundle, merged)
    prompts = TrainedPrompts(PromptForm("text"), None, None, "", True, LABELS)
    write_peft(adapter, "a/toy", tmp_path / "peft", prompts, head)
    modules, tensor = HEADS[name]
    config = json.loads((tmp_path / "peft/adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", modules)
    assert tensor in head.tensors

    auto = transformers.AutoModelForSequenceClassification
    base = auto.from_pretrained(model, num_labels=CLASSES)
    for replaced in head.tensors:  # a head that is not that of the files
        torch.nn.init.normal_(base.get_parameter(replaced))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of tensors that PEFT misses or does not know
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    assert isinstance(theirs, peft.PeftModelForSequenceClassification)
    whole = auto.from_pretrained(model, num_labels=CLASSES).eval()
    whole.load_state_dict({n: torch.tensor(merged.float32(n)) for n in merged.shapes()})
    tokens = torch.randint(4, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, got = whole(input_ids=tokens).logits, theirs(input_ids=tokens).logits
        plain = auto.from_pretrained(model, num_labels=CLASSES).eval()(input_ids=tokens).logits
    assert (expected - plain).abs().max() > 0.5
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    # What the refusal of gsqc import says to do.
    theirs.merge_and_unload().save_pretrained(tmp_path / "whole")
    begun = load_classifier(str(tmp_path / "whole"), LABELS)
    np.testing.assert_array_equal(begun.weights.float32(tensor), head.tensors[tensor])


def test_an_adapter_of_the_head_alone_is_refused(tmp_path: Path) -> None:
    loaded = load_classifier(build_encoder("bert"), LABELS)
    linears = _linears(loaded)
    bundle = _bundle(tmp_path / "b.gsqc", "bert", linears)
    adapter = _adapter(loaded, "bert", linears, 0)
    head = saved_head(bundle, MergedWeights(bundle, loaded, adapter))
    with pytest.raises(ExportError, match="changes the classifier's head alone"):
        peft_files(adapter, head)

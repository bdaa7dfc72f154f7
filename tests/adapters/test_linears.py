# SPDX-License-Identifier: Apache-2.0
"""The names of linears, and which of them `linears=` chooses: as in PEFT's `target_modules`."""

from __future__ import annotations

import pytest

from gsqc.adapters.linears import LINEARS, matrix_name, module_name, names_of_linears, selected

GPT2 = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
NEOX = [
    "attention.query_key_value",
    "attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
]
LLAMA = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]


@pytest.mark.parametrize(
    ("modules", "names"),
    [
        (LLAMA, list(LINEARS)),
        (GPT2, ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]),
        (NEOX, ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
        (["a.q_proj", "b.q_proj"], ["a.q_proj", "b.q_proj"]),
    ],
)
def test_the_shortest_name_that_is_unique(modules: list[str], names: list[str]) -> None:
    paths = [f"model.layers.3.{module}" for module in modules]
    found = names_of_linears(paths)
    assert found == names
    for path, name in zip(paths, found, strict=True):
        assert path.endswith(f".{module_name(name)}")
    assert len({matrix_name(name, m) for name in found for m in "ab"}) == 2 * len(found)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ([], ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]),
        (["c_proj"], ["attn.c_proj", "mlp.c_proj"]),
        (["mlp.c_proj", "c_attn"], ["c_attn", "mlp.c_proj"]),
        (["proj"], []),
        (["q"], []),
    ],
)
def test_the_end_of_a_name_chooses(wanted: list[str], chosen: list[str]) -> None:
    assert selected(wanted, names_of_linears([f"transformer.h.0.{m}" for m in GPT2])) == chosen


def test_peft_targets_the_same_modules() -> None:
    """Each name as a target module of PEFT: it matches the modules that end in it."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=128))
    names = names_of_linears([f"transformer.h.0.{m}" for m in GPT2])
    targets = [module_name(name) for name in names if name != "attn.c_proj"]
    config = peft.LoraConfig(target_modules=targets, fan_in_fan_out=True)
    adapted = peft.get_peft_model(model, config)
    found = {n.split(".lora_A")[0] for n, _ in adapted.named_parameters() if ".lora_A" in n}
    prefix = "base_model.model.transformer.h"
    assert found == {f"{prefix}.{k}.{m}" for k in (0, 1) for m in GPT2 if m != "attn.c_proj"}

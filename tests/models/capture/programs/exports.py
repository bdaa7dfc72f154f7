# SPDX-License-Identifier: Apache-2.0
"""Tiny models as .onnx and .pt2 files, written by torch's exporters, and their logits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GPT2Config, PreTrainedModel, Qwen3Config

from tests.models.capture.tiny import SIZES, TOKENS, build, tiny_llama

NAMES = ["input_ids", "attention_mask", "position_ids"]


def tiny_qwen3() -> PreTrainedModel:
    """Norms of the heads of q and k, and a head of its own."""
    return build(Qwen3Config(**(SIZES | {"head_dim": 16})))


def tiny_gpt2() -> PreTrainedModel:
    """Biases that are not zero: exporters leave out those that are."""
    model = build(GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=128, n_positions=TOKENS))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
    return model


MODELS = {"llama": tiny_llama, "qwen3": tiny_qwen3, "gpt2": tiny_gpt2}


class Tokens(torch.nn.Module):
    """From tokens alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any) -> Any:
        return self.model(input_ids=input_ids, use_cache=False).logits


class _Masked(Tokens):
    """From tokens, mask and positions."""

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any) -> Any:
        return self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
        ).logits


class _Cached(Tokens):
    """With keys and values of earlier tokens, as Optimum's decoders have them."""

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> Any:
        pairs = list(zip(past[0::2], past[1::2], strict=True))
        result = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=DynamicCache(pairs),
            use_cache=True,
        )
        layers = result.past_key_values.layers
        return result.logits, *(part for layer in layers for part in (layer.keys, layer.values))


def _inputs(count: int) -> tuple[torch.Tensor, ...]:
    tokens = torch.ones(1, TOKENS, dtype=torch.long)
    return (tokens, torch.ones_like(tokens), torch.arange(TOKENS)[None])[:count]


def write_onnx(model: PreTrainedModel, path: Path, form: str) -> None:
    """Write an .onnx file. `form` is legacy, cached, or dynamo with the version of ONNX."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "cached":
            _write_cached(model, path)
            return
        free: dict[str, Any] = {"dynamic_axes": {n: {0: "b", 1: "s"} for n in [*NAMES, "logits"]}}
        if form != "legacy":
            dynamic = torch.export.Dim.DYNAMIC
            free = {"dynamic_shapes": ({0: dynamic, 1: dynamic},) * 3}
        torch.onnx.export(
            _Masked(model),
            _inputs(3),
            path,
            dynamo=form != "legacy",
            opset_version=18 if form == "legacy" else int(form.removeprefix("dynamo")),
            input_names=NAMES,
            output_names=["logits"],
            **free,
        )


def _write_cached(model: PreTrainedModel, path: Path) -> None:
    config: Any = model.config
    shape = (1, config.num_key_value_heads, 3, config.hidden_size // config.num_attention_heads)
    count = 2 * config.num_hidden_layers
    past = [f"past_key_values.{k // 2}.{'value' if k % 2 else 'key'}" for k in range(count)]
    tokens, _, positions = _inputs(3)
    mask = torch.ones(1, TOKENS + 3, dtype=torch.long)
    present = [name.replace("past_key_values", "present") for name in past]
    torch.onnx.export(
        _Cached(model),
        (tokens, mask, positions + 3, *[torch.zeros(shape) for _ in past]),
        path,
        dynamo=False,
        opset_version=18,
        input_names=[*NAMES, *past],
        output_names=["logits", *present],
        dynamic_axes={n: {1: "s"} for n in NAMES} | {n: {2: "p"} for n in past},
    )


def write_pt2(model: PreTrainedModel, path: Path, *, decomposed: bool = False) -> None:
    """Write a .pt2 file from tokens alone: for any length, or in core operators for one length."""
    free = None if decomposed else ({1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Tokens(model), _inputs(1), dynamic_shapes=free)
    torch.export.save(program.run_decompositions() if decomposed else program, path)


def save_pt2(module: torch.nn.Module, path: Path) -> None:
    """Write a .pt2 file of a module from tokens, for one length."""
    torch.export.save(torch.export.export(module, _inputs(1)), path)


def onnx_logits(path: Path, ids: torch.Tensor) -> torch.Tensor:
    """onnxruntime's logits [T, V], with products in float32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    known = dict(zip(NAMES, (t.numpy() for t in _inputs(3)), strict=True))
    known["input_ids"] = ids[None].numpy()
    feeds = {}
    for value in session.get_inputs():
        sizes = [size if isinstance(size, int) else 0 for size in value.shape]
        empty = np.zeros([1, *sizes[1:]], np.float32)
        feeds[value.name] = known.get(value.name, empty)
    return torch.from_numpy(session.run(["logits"], feeds)[0][0])

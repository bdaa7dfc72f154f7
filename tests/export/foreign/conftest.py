# SPDX-License-Identifier: Apache-2.0
"""A bundle with the linears of the tiny llama of tests/models/capture/tiny.py, without code."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest

from gsqc.adapters import parse_adapter
from gsqc.adapters.linears import LINEARS
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AdapterPart, MatrixEntry, ModelPart
from gsqc.bundle.plan import Plan, TensorPlan
from tests.runtime.small_bundle import VOCABULARY, write_bundle

HIDDEN, INNER, HEADS, KEY_VALUE_HEADS = 64, 96, 4, 2
KEY_VALUE = HIDDEN // HEADS * KEY_VALUE_HEADS
SIZES = {
    "q": (HIDDEN, HIDDEN),
    "k": (KEY_VALUE, HIDDEN),
    "v": (KEY_VALUE, HIDDEN),
    "o": (HIDDEN, HIDDEN),
    "gate": (INNER, HIDDEN),
    "up": (INNER, HIDDEN),
    "down": (HIDDEN, INNER),
}
"""Rows and columns of each linear."""
RANK, ALPHA, LAYERS = 4, 8, 2


def module(short: str, layer: int) -> str:
    """A linear's name in Hugging Face's model."""
    part = "self_attn" if short in "qkvo" else "mlp"
    return f"model.layers.{layer}.{part}.{LINEARS[short].module}"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two layers, seven linears, rank 4 and alpha 8. A begins at random, and B with ones: what
    import leaves alone shows.
    """
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "tiny.gsqc", tuple(LINEARS))


def tiny_bundle(
    path: Path, linears: tuple[str, ...], text: str = f"lora:rank={RANK},alpha={ALPHA}"
) -> Bundle:
    """Write the bundle with an adapter of some linears."""
    adapter = parse_adapter(text)
    rng, state, shapes = np.random.default_rng(7), {}, {}
    for layer in range(LAYERS):
        for short in linears:
            rows, columns = SIZES[short]
            for matrix, parameter in adapter.parameters(rows, columns).items():
                name, count = f"layers.{layer}.{short}_{matrix}", prod(parameter.shape)
                shapes[name] = MatrixEntry(*parameter.shape)
                drawn = rng.integers(-(2**21), 2**21, count, np.int32)
                state[name] = drawn if parameter.fan_in else np.ones(count, np.int32)
    plan = Plan(buffers={"state": {n: TensorPlan("int32", t.size) for n, t in state.items()}})
    write_bundle(
        path,
        state=state,
        plan=plan,
        model=ModelPart("llama", LAYERS, HIDDEN, HEADS, KEY_VALUE_HEADS, VOCABULARY, name="toy"),
        base_kinds={f"{module(short, 0)}.weight": "nf4" for short in LINEARS},
        adapter=AdapterPart(adapter.kind, adapter.values(), linears, shapes),
    )
    return Bundle.open(path)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama, in a directory with the name of the bundle's model."""
    # Imported here: most tests of this folder need no torch.
    from tests.models.capture.tiny import tiny_llama

    folder = tmp_path_factory.mktemp("base") / "toy"
    tiny_llama().save_pretrained(folder)
    return folder

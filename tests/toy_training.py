# SPDX-License-Identifier: Apache-2.0
"""Steps of the toy decoder in numpy, and the same in float64 with autograd."""

from __future__ import annotations

import json
from collections.abc import Collection

import numpy as np
import torch

from gsqc.bundle.plan_reader import read_plan
from gsqc.models import model_ops as mo
from gsqc.numerics.formats import LEAST_EXPONENT
from gsqc.numerics.optim import parse_optimizer
from gsqc.runtime.executor import Executor
from gsqc.targets.numpy.kernels import NumpyKernels
from tests.adapters.float_reference import adapted
from tests.toy import Toy
from tests.toy_graph import MODULES, NORM, TABLE

ONE = 2**14


def open_executor(toy: Toy, optimizer: str = "adamw") -> tuple[Executor, dict[str, np.ndarray]]:
    """An executor with prepared operands and random adapters (B too, so that every gradient is
    there).
    """
    plan = read_plan(json.loads(json.dumps(toy.step.plan.to_json())))
    executor = Executor(plan, NumpyKernels(plan.kernels), toy.base)
    rng = np.random.default_rng(1)
    adapters = {}
    for name, matrix in toy.step.adapters.items():
        shape = matrix.shape
        size = shape[1] ** -0.5 if name.endswith("_a") else 0.02
        adapters[name] = np.rint(rng.standard_normal(shape) * size * 2**24).astype(np.int32)
        executor.tensors[name][:] = adapters[name].reshape(-1)
        for state in parse_optimizer(optimizer).state(shape):
            executor.tensors[f"{name}.{state}.e"][:] = LEAST_EXPONENT
    executor.run("prepare")
    tokens = rng.integers(0, toy.sizes.vocabulary, toy.sizes.tokens + 1)
    executor.tensors["tokens"][:], executor.tensors["labels"][:] = tokens[:-1], tokens[1:]
    executor.tensors["positions"][:] = np.arange(toy.sizes.tokens)
    executor.tensors["weights"][:] = ONE
    executor.tensors["weights"][:5] = 0
    return executor, adapters


def float_losses(
    toy: Toy,
    tokens: np.ndarray,
    labels: np.ndarray,
    adapters: dict[str, torch.Tensor],
    detached: Collection[int] = (),
) -> torch.Tensor:
    """The same step in float64 on the de-quantised weights: loss per token. The branches of the
    layers in `detached` pass no gradient.
    """
    s = toy.sizes
    tables = [torch.tensor(toy.captured.constants[f"rope_{t}"]) for t in ("cos", "sin")]
    x = toy.frozen(TABLE)[tokens]
    for i in range(s.layers):
        before = x

        def frozen(name: str, i: int = i) -> torch.Tensor:
            return toy.frozen(f"model.layers.{i}.{name}.weight")

        def linear(x: torch.Tensor, short: str, i: int = i, frozen=frozen) -> torch.Tensor:
            w, prefix = frozen(MODULES[short]), f"layers.{i}.{short}_"
            own = {n.removeprefix(prefix): m for n, m in adapters.items() if n.startswith(prefix)}
            if not own:
                return x @ w.T
            return adapted(toy.step.adapter_of[short], x, w, own, toy.arrays(i, MODULES[short]))

        h = mo.rms_norm(x, frozen("input_layernorm"), eps=1e-5)
        q, k, v = (
            mo.split_heads(linear(h, n), heads=c)
            for n, c in (("q", s.heads), ("k", s.kv_heads), ("v", s.kv_heads))
        )
        q, k = (mo.rope(y, *tables) for y in (q, k))
        x = x + linear(mo.merge_heads(mo.attention(q, k, v, scale=s.head_dim**-0.5)), "o")
        h = mo.rms_norm(x, frozen("post_attention_layernorm"), eps=1e-5)
        x = x + linear(mo.silu_gate(linear(h, "gate"), linear(h, "up")), "down")
        x = before + (x - before).detach() if i in detached else x
    logits = mo.rms_norm(x, toy.frozen(NORM), eps=1e-5) @ toy.frozen(TABLE).T
    return torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels, dtype=torch.long), reduction="none"
    )


def gradients(executor: Executor, adapters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    limbs = {
        n: [executor.tensors[f"{n}_grad_{x}"].astype(np.float64) for x in ("high", "low")]
        for n in adapters
    }
    return {
        n: (high * 2.0**-12 + low * 2.0**-34).reshape(adapters[n].shape)
        for n, (high, low) in limbs.items()
    }


def check_gradients(toy: Toy, atol: float = 0.3) -> None:
    executor, adapters = open_executor(toy)
    executor.run("gradient")
    leaves = {n: torch.tensor(a / 2.0**24, requires_grad=True) for n, a in adapters.items()}
    losses = float_losses(toy, executor.tensors["tokens"], executor.tensors["labels"], leaves)
    (losses * torch.tensor(executor.tensors["weights"] / ONE)).sum().backward()
    np.testing.assert_allclose(executor.tensors["loss"] / 2**16, losses.detach().numpy(), atol=atol)
    for name, got in gradients(executor, adapters).items():
        expected = leaves[name].grad.numpy()
        assert np.linalg.norm(got - expected) < 0.15 * np.linalg.norm(expected), name

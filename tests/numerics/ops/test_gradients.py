# SPDX-License-Identifier: Apache-2.0
"""Each generated gradient against float64 autograd, on activations with outlier columns.

A Row-16 carries 15 bits below the row's largest number. The rms of a row is 1/4 to 1/50 of its
largest. So rounding is an error of 2^-16/√3 · (4 … 50), that is 3.5e-5 … 4.4e-4 of the row's norm.
The bounds are about twice what was measured, which is that rounding and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import gsqc.numerics.ops.all  # noqa: F401
from gsqc.numerics.ops.registry import OPS, evaluate
from tests.numerics.ops.float_reference import relative_error, to_float, to_row

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def activations(
    rng: np.random.Generator, rows: int, columns: int, outlier: float = 30.0
) -> np.ndarray:
    x = rng.standard_normal((rows, columns))
    x[:, columns // 7] *= outlier
    return x


def leaf(x: np.ndarray):
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def test_rms_norm() -> None:
    rng = np.random.default_rng(1)
    x, w, dy = (
        to_row(activations(rng, 32, 576), 24),
        to_row(rng.uniform(0.2, 3, (1, 576)), 16),
        to_row(activations(rng, 32, 576, 5), 16),
    )
    y, unit, scale = evaluate(OPS["rms_norm"], [x, w], {"eps": 1e-5})
    dx = evaluate(OPS["rms_norm_grad"], [dy, w, unit, scale], {})
    fx = leaf(to_float(x))
    expected = fx * torch.rsqrt(fx.pow(2).mean(-1, keepdim=True) + 1e-5) * torch.tensor(to_float(w))
    expected.backward(torch.tensor(to_float(dy)))
    assert relative_error(to_float(y), expected.detach().numpy()) < 4e-4
    assert relative_error(to_float(dx), fx.grad.numpy()) < 8e-4


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("vectors", [0, 1, 2])
def test_layer_norm(vectors: int, offset: float) -> None:
    """A common offset of all columns costs bits before the norm: log2(offset / σ) of 24."""
    rng = np.random.default_rng(1)
    x = to_row(activations(rng, 32, 576) + offset, 24)
    weight, bias = (to_row(rng.uniform(0.2, 3, (1, 576)), 16) for _ in range(2))
    affine = [weight, bias][:vectors]
    dy = to_row(activations(rng, 32, 576, 5), 16)
    y, unit, scale = evaluate(OPS["layer_norm"], [x, *affine], {"eps": 1e-5})
    dx = evaluate(OPS["layer_norm_grad"], [dy, unit, scale, *affine[:1]], {})
    fx = leaf(to_float(x))
    vector = [torch.tensor(to_float(v)[0]) for v in affine]
    expected = functional.layer_norm(fx, (576,), *vector, eps=1e-5)
    expected.backward(torch.tensor(to_float(dy)))
    assert relative_error(to_float(y), expected.detach().numpy()) < 4e-4
    assert relative_error(to_float(dx), fx.grad.numpy()) < 8e-4


@pytest.mark.parametrize("records", [(64,), (20, 1, 43)])
def test_softmax(records: tuple[int, ...]) -> None:
    """Against torch, with a token that sees the tokens before it in its own record alone."""
    place = np.concatenate([np.arange(n, dtype=np.int32) for n in records])
    record = torch.tensor(np.repeat(np.arange(len(records)), records))
    rng = np.random.default_rng(2)
    scores, dp = (
        to_row(rng.standard_normal((2, 64, 64)) * 20, 24),
        to_row(rng.standard_normal((2, 64, 64)), 16),
    )
    p = evaluate(OPS["softmax"], [scores, place.reshape(1, 64, 1)], {"scale": 0.125})
    ds = evaluate(OPS["softmax_grad"], [p, dp], {"scale": 0.125})
    fs = leaf(to_float(scores))
    mask = torch.ones(64, 64, dtype=torch.bool).tril() & (record[:, None] == record)
    expected = torch.softmax((fs * 0.125).masked_fill(~mask, -torch.inf), -1)
    expected.backward(torch.tensor(to_float(dp)))
    assert relative_error(to_float(p), expected.detach().numpy()) < 4e-5
    assert relative_error(to_float(ds), fs.grad.numpy()) < 3e-4


ACTIVATIONS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "silu": ({}, functional.silu),
    "gelu": ({"tanh": False}, functional.gelu),
    "gelu with tanh": ({"tanh": True}, partial(functional.gelu, approximate="tanh")),
    "relu": ({}, functional.relu),
    "relu_square": ({}, lambda x: functional.relu(x).square()),
    "silu with a factor": ({"factor": 1.702}, lambda x: x * torch.sigmoid(1.702 * x)),
}
SIZES = (0.01, 0.3, 1.0, 4.0)
"""Of the activations, so that each part of a curve counts."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "relu"])
def test_gates(name: str, size: float) -> None:
    attributes, function = ACTIVATIONS[name]
    operation = f"{name.split()[0]}_gate"
    rng = np.random.default_rng(3)
    gate, up, dh = (to_row(activations(rng, 32, 256, 4) * s, 16) for s in (size, 1, 1))
    h = evaluate(OPS[operation], [gate, up], attributes)
    d_gate, d_up = evaluate(OPS[f"{operation}_grad"], [dh, gate, up], attributes)
    fg, fu = leaf(to_float(gate)), leaf(to_float(up))
    expected = function(fg) * fu
    expected.backward(torch.tensor(to_float(dh)))
    assert relative_error(to_float(h), expected.detach().numpy()) < 4e-4
    assert relative_error(to_float(d_gate), fg.grad.numpy()) < 4e-4
    assert relative_error(to_float(d_up), fu.grad.numpy()) < 4e-4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_without_a_gate(name: str, size: float) -> None:
    attributes, function = ACTIVATIONS[name]
    operation = name.split()[0]
    rng = np.random.default_rng(7)
    x, dy = (to_row(activations(rng, 32, 256, 4) * s, 16) for s in (size, 1))
    y = evaluate(OPS[operation], [x], attributes)
    dx = evaluate(OPS[f"{operation}_grad"], [dy, x], attributes)
    fx = leaf(to_float(x))
    expected = function(fx)
    expected.backward(torch.tensor(to_float(dy)))
    assert relative_error(to_float(y), expected.detach().numpy()) < 4e-4
    assert relative_error(to_float(dx), fx.grad.numpy()) < 4e-4


@pytest.mark.parametrize("tanh", [True, False])
def test_gelu_far_below_zero(tanh: bool) -> None:
    """There a share is small, and its relative error counts.

    It is 1e-4 of the curve, table and Row-16 together, and two units of Q30.
    """
    x = to_row(-np.linspace(0.01, 5, 500).reshape(500, 1), 16)
    share = to_float(evaluate(OPS["gelu"], [x], {"tanh": tanh})) / to_float(x)
    numbers = torch.tensor(to_float(x))
    expected = functional.gelu(numbers, approximate="tanh" if tanh else "none") / numbers
    error = np.abs(share - expected.numpy())
    assert (error < 1e-4 * expected.numpy() + 2**-29).all()


@pytest.mark.parametrize(("factor", "cap"), [(1.0, 30.0), (0.125, 50.0), (1.0, 1.0)])
def test_softcap(factor: float, cap: float) -> None:
    """tanh is off by 3e-6 at most, and its gradient twice that: the op's own bound."""
    rng = np.random.default_rng(5)
    x, dy = (to_row(activations(rng, 32, 256, 4) * cap, 24) for _ in range(2))
    y = evaluate(OPS["softcap"], [x], {"factor": factor, "cap": cap, "bits": 24})
    dx = evaluate(OPS["softcap_grad"], [dy, y], {"factor": factor, "cap": cap})
    fx = leaf(to_float(x))
    expected = cap * torch.tanh(fx * factor / cap)
    expected.backward(torch.tensor(to_float(dy)))
    assert np.abs(to_float(y) - expected.detach().numpy()).max() < 3e-6 * cap
    largest = np.abs(to_float(dy)).max(1, keepdims=True) * factor
    assert (np.abs(to_float(dx) - fx.grad.numpy()) < 6e-6 * largest).all()


def test_loss_of_capped_logits() -> None:
    """The gradient of the loss through the cap, against torch on the same table: 8-bit operands of
    two products.
    """
    rng = np.random.default_rng(6)
    h = to_row(rng.standard_normal((24, 64)) * 0.5, 16)
    table = evaluate(OPS["quantise"], [to_row(rng.standard_normal((300, 64)), 30)], {"bits": 8})
    labels = rng.integers(0, 300, (24, 1)).astype(np.int32)
    weights = np.full((24, 1), 2**14, np.int32)
    losses, *state = evaluate(OPS["vocabulary_loss"], [h, table, labels], {"cap": 10.0})
    values = [h, table, labels, *state, weights]
    dh = evaluate(OPS["vocabulary_loss_grad"], values, {"cap": 10.0})
    row = evaluate(OPS["gse_row"], [table], {})
    floats = evaluate(OPS["unrotate"], [row], {"columns": 64, "bits": 24})
    fh = leaf(to_float(h))
    logits = 10 * torch.tanh(fh @ torch.tensor(to_float(floats)).T / 10)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels[:, 0]).long(), reduction="none"
    )
    expected.sum().backward()
    assert np.abs(losses[:, 0] / 2**16 - expected.detach().numpy()).max() < 0.15
    error = np.linalg.norm(to_float(dh) - fh.grad.numpy()) / np.linalg.norm(fh.grad.numpy())
    assert error < 0.05


def test_rope_is_undone_by_its_gradient() -> None:
    rng = np.random.default_rng(4)
    x = to_row(activations(rng, 40, 64, 5).reshape(2, 20, 64), 16)
    angle = rng.uniform(0, 100, (1, 20, 32))
    tables = [np.rint(f(angle) * 2**29).astype(np.int32) for f in (np.cos, np.sin)]
    y = evaluate(OPS["rope"], [x, *tables], {"inverse": False})
    back = evaluate(OPS["rope"], [y, *tables], {"inverse": True})
    a, c = np.split(to_float(x), 2, -1)
    rotated = np.concatenate(
        [a * np.cos(angle) - c * np.sin(angle), c * np.cos(angle) + a * np.sin(angle)], -1
    )
    assert relative_error(to_float(y), rotated) < 1e-4
    assert relative_error(to_float(back), to_float(x)) < 1.5e-4


def test_rope_of_a_part_of_the_columns() -> None:
    """What is not rotated is off by one rounding to 16 bits. Pairs are halves in another order."""
    rng = np.random.default_rng(4)
    x = to_row(rng.standard_normal((2, 20, 64)), 16)
    angle = rng.uniform(0, 100, (1, 20, 10))
    tables = [np.rint(f(angle) * 2**29).astype(np.int32) for f in (np.cos, np.sin)]
    halves = evaluate(OPS["pairs_to_halves"], [x], {"width": 20})
    order = [*range(0, 20, 2), *range(1, 20, 2), *range(20, 64)]
    assert (to_float(halves) == to_float(x)[..., order]).all()
    y = evaluate(OPS["rope"], [halves, *tables], {"inverse": False})
    pairs = to_float(evaluate(OPS["halves_to_pairs"], [y], {"width": 20}))
    z = (to_float(x)[..., :20:2] + 1j * to_float(x)[..., 1:20:2]) * np.exp(1j * angle)
    rotated = np.stack([z.real, z.imag], -1).reshape(2, 20, 20)
    assert relative_error(pairs[..., :20], rotated) < 1e-4
    assert relative_error(pairs[..., 20:], to_float(x)[..., 20:]) < 1e-4
    back = evaluate(OPS["rope"], [y, *tables], {"inverse": True})
    assert relative_error(to_float(back), to_float(halves)) < 1.5e-4


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.012), (6, 0.05), (5, 0.1)])
def test_linear(bits: int, bound: float) -> None:
    """y, dx and dw of a linear against float on the unquantised operands.

    A group of 32 normal numbers has its largest at about 2.1 rms. b bits leave steps of 2^-(b-2) ·
    2 … 4 rms, which is an error of 2^-(b-1) · 0.6 … 1.2 per operand. It is 0.7 % at 8 bits, twice
    that for each bit less, and √2 times that for two operands.
    """
    rng = np.random.default_rng(5)
    x, w, dy = (to_row(rng.standard_normal(s), 24) for s in ((48, 96), (64, 96), (48, 64)))
    attributes = {"x_bits": bits, "w_bits": bits, "bits": 24}
    swap = lambda v: evaluate(OPS["transpose"], [v], {"permutation": (1, 0)})  # noqa: E731
    y = evaluate(OPS["linear"], [x, w], attributes)
    dx = evaluate(OPS["linear"], [dy, swap(w)], attributes)
    dw = evaluate(OPS["linear"], [swap(dy), swap(x)], attributes)
    fx, fw = leaf(to_float(x)), leaf(to_float(w))
    expected = fx @ fw.T
    expected.backward(torch.tensor(to_float(dy)))
    for got, reference in ((y, expected.detach()), (dx, fx.grad), (dw, fw.grad)):
        assert relative_error(to_float(got), reference.numpy()) < bound

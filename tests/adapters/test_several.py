# SPDX-License-Identifier: Apache-2.0
"""Several adapters on linears of their own: who is on which, the manifest, gradients, losses."""

from __future__ import annotations

import numpy as np
import pytest

from gsqc.adapters import parse_adapter
from gsqc.adapters.several import assign, clashes, from_manifest, in_manifest
from gsqc.errors import OptionError
from tests.adapters.test_adapters import begin, toy
from tests.toy import Toy, build_toy
from tests.toy_training import check_gradients

KNOWN = ("q", "k", "v", "o", "gate", "up", "down")
TEXTS = ("lora:rank=8,alpha=16,linears=q+v", "paca:rank=8,alpha=16,linears=up+down", "peqa")


def parsed(*texts: str) -> list:
    return [parse_adapter(text) for text in texts]


@pytest.fixture(scope="module")
def mixed() -> Toy:
    return build_toy(adapters=tuple(parsed(*TEXTS)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_one_without_linears_takes_those_that_no_other_names(order: tuple[int, ...]) -> None:
    found = assign(parsed(*(TEXTS[k] for k in order)), KNOWN)
    kinds = ("lora", "peqa", "lora", "peqa", "peqa", "paca", "paca")
    assert [found[name].kind for name in KNOWN] == list(kinds)


def test_an_end_of_a_name_clashes_with_the_whole_name() -> None:
    adapters = parsed("lora:linears=attn.c_proj", "peqa:linears=c_proj")
    assert not list(clashes(adapters))
    with pytest.raises(OptionError, match=r"are both on attn\.c_proj\n"):
        assign(adapters, ("attn.c_proj", "mlp.c_proj"))


def test_what_has_no_linear_left_is_refused() -> None:
    with pytest.raises(OptionError, match="peqa: the others leave it no linear"):
        assign(parsed("lora:linears=q+v", "peqa"), ("q", "v"))
    with pytest.raises(OptionError, match="the model has no linear up"):
        assign(parsed("lora:linears=q", "peqa:linears=up"), ("q", "v"))


def test_a_manifest_reads_what_it_writes() -> None:
    by_linear = assign(parsed(*TEXTS), KNOWN)
    kind, settings = in_manifest(by_linear)
    assert kind == "several"
    read = from_manifest(kind, settings, KNOWN)
    assert {n: (a.kind, a.values()) for a in read for n in a.linears} == {
        n: (a.kind, a.values()) for n, a in by_linear.items()
    }


def test_the_manifest_of_one_is_what_it_was() -> None:
    by_linear = assign(parsed("lora:rank=4,alpha=8"), KNOWN)
    assert in_manifest(by_linear) == ("lora", {"rank": 4, "alpha": 8})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "not on the linears"),
        ({"q": "lora"}, "not on the linears"),
        ({"q+v": "peqa", "v": "lora"}, "not on the linears"),
        ({"q": "lora", "v": "what"}, "unknown kind"),
        ({"q": 3, "v": 4}, "unknown kind"),
    ],
)
def test_a_strangers_manifest_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_manifest("several", settings, ("q", "v"))


def test_the_first_loss_is_that_of_the_base(mixed: Toy) -> None:
    losses = []
    for made in (mixed, toy("lora")):
        executor = begin(made)
        executor.run("gradient")
        losses.append(executor.tensors["loss"].copy())
    np.testing.assert_array_equal(*losses)


def test_gradients_equal_autograd(mixed: Toy) -> None:
    """To 15 % as those of one kind (test_adapters.py). Losses, of 4 to 14, are off by 0.53 at most:
    8-bit operands. That of an adapter on another's linears would be a shape or a key error.
    """
    check_gradients(mixed, atol=0.6)

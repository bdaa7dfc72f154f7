# SPDX-License-Identifier: Apache-2.0
"""Options are read exactly, and all problems are told at once."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from gsqc.adapters import parse_adapter
from gsqc.adapters.lora import Lora
from gsqc.bundle.manifest import BITS
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.errors import OptionError

RANGE = range(5, 9)


def parse(model: str = "dir", **changes: Any) -> CompileOptions:
    values = {
        "bits": "4-8-8",
        "base": None,
        "adapter": "lora:rank=16,alpha=32",
        "known_models": {"known": 1},
    }
    return parse_compile_options(model, **{**values, "output": Path("a.gsqc"), **changes})


def test_texts_and_values_are_the_same() -> None:
    assert Bits.parse("4-7-6") == Bits(4, 7, 6)
    assert str(Bits(8, 5, 6)) == "8-5-6"
    adapter = parse_adapter("lora:rank=8,alpha=16,linears=v+q")
    assert adapter == Lora(8, 16, ("q", "v"))
    assert parse_adapter(str(adapter)) == adapter
    assert parse_adapter("lora:alpha=32,rank=16").linears == ()
    assert parse_adapter("lora") == Lora() == Lora(16, 32, ())
    own = parse_adapter("lora:linears=fc1+v_proj+attn.c_proj")
    assert own.linears == ("v", "fc1", "attn.c_proj")
    assert parse_adapter(str(own)) == own


@pytest.mark.parametrize(
    "text",
    [
        *("", "4-8", "4-8-8-8", "3-8-8", "4-4-8", "4-8-9", "4-08-8", " 4-8-8", "4-8-8\n", "４-8-8"),
        *("4-5-5:8", "4-5-5:w", "4-5-5:w3", "4-5-5:w9", "4-5-5:w08", "4-5-5w8", "4-5-5:w8:w8"),
        *("4-5-5:W8", "4-5-5:w８", "4-5-5: w8", "4-5-5:w8\n", ":w8"),
    ],
)
def test_other_bits_are_refused(text: str) -> None:
    with pytest.raises(OptionError) as error:
        Bits.parse(text)
    assert f"--bits {text} is not W-A-G or W-A-G:wN" in str(error.value)
    assert "--bits 4-5-5:w8" in error.value.hint


@pytest.mark.parametrize("base", [3, 9, "8", True, 5.0])
def test_other_widths_of_the_base_in_products_are_refused(base: Any) -> None:
    with pytest.raises(OptionError, match=r":wN of --bits .* is not a whole number from 4 to 8"):
        Bits(4, 5, 5, base)


def test_the_base_has_a_width_of_its_own_in_products() -> None:
    bits = Bits.parse("4-5-6:w8")
    assert bits == Bits(4, 5, 6, 8)
    assert (bits.w, bits.a, bits.g, bits.base) == (4, 5, 6, 8)
    assert str(bits) == "4-5-6:w8"
    assert Bits.parse("8-8-8:w4").base == 4


def test_without_one_the_base_has_the_width_of_activations() -> None:
    """Equal bits have one text, so a run knows them again."""
    assert Bits.parse("4-5-6").base == 5
    assert Bits.parse("4-5-6:w5") == Bits(4, 5, 6) == Bits(4, 5, 6, 5)
    assert str(Bits.parse("4-5-6:w5")) == "4-5-6"


def test_a_bundle_may_have_any_bits() -> None:
    every = [Bits(w, a, g, n) for w in (4, 8) for a, g, n in product(RANGE, RANGE, range(4, 9))]
    assert set(BITS) == set(map(str, every))
    assert len(BITS) == len(set(BITS))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("lora:rank=0,alpha=-1", ["rank 0", "alpha -1"]),
        ("lora:rank=257,alpha=1.5", ["rank 257", "alpha 1.5"]),
        ("lora:rank=" + "9" * 5000 + ",alpha=1", ["rank 9"]),
        ("dora:rank=1,alpha=1", ["unknown kind 'dora'"]),
        ("lora:rank=1,alpha=1,dropout=0", ["unknown setting 'dropout'"]),
        ("lora:rank=1,alpha=1,linears=q+a b+.c", ["'a b' is no name", "'.c' is no name"]),
        ("lora:rank=1,alpha=1,linears=", ["'' is no name of a linear"]),
        ("lora:rank=1,alpha=1,linears=" + "x" * 65, ["is no name of a linear"]),
    ],
)
def test_other_adapters_are_refused(text: str, problems: list[str]) -> None:
    with pytest.raises(OptionError) as error:
        parse_adapter(text)
    for problem in problems:
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("model", "bits", "base"),
    [
        ("dir", "4-8-8", "nf4"),
        ("model.GGUF", "4-8-8", "gguf"),
        ("known", "4-8-8", "gguf"),
        ("known", "8-8-8", "gse8"),
    ],
)
def test_the_base_that_is_chosen(model: str, bits: str, base: str) -> None:
    assert parse(model, bits=bits).base == base


@pytest.mark.parametrize(
    ("bits", "base"), [("8-8-8", "nf4"), ("8-8-8", "gguf"), ("4-8-8", "gse8"), ("4-8-8", "int4")]
)
def test_bits_and_base_must_agree(bits: str, base: str) -> None:
    with pytest.raises(OptionError, match=base):
        parse(bits=bits, base=base)


@pytest.mark.parametrize(
    "change", [{"sequence_length": 0}, {"sequence_length": 8193}, {"batch": 65}, {"seed": -1}]
)
def test_numbers_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="is not a whole number from"):
        parse(**change)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(OptionError) as error:
        parse(bits="1-1-1", adapter="lora:rank=0,alpha=1", base="gse8", optimizer="lion", batch=0)
    for problem in ("--bits 1-1-1", "rank 0", "lion", "--batch 0"):
        assert problem in str(error.value)
    assert "gse8" not in str(
        error.value
    )  # right for the bits that were meant, as far as one can know


def test_an_optional_pass_needs_a_backward_pass() -> None:
    with pytest.raises(OptionError, match="needs a backward pass: --optimizer zo"):
        parse_compile_options(
            "dir", known_models={}, output="x.gsqc", passes=("dropbp",), optimizer="zo"
        )


def test_a_correction_needs_an_error() -> None:
    with pytest.raises(OptionError, match="--pass lorc:rank=8 with --base gguf corrects nothing"):
        parse_compile_options("m.gguf", known_models={}, output="x.gsqc", passes=("lorc",))


def test_a_correction_needs_no_backward_pass() -> None:
    options = parse_compile_options(
        "dir", known_models={}, output="x.gsqc", passes=("lorc:rank=4",), optimizer="zo"
    )
    assert [str(one) for one in options.passes] == ["lorc:rank=4"]

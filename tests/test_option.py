# SPDX-License-Identifier: Apache-2.0
"""An option is declared once: its name and type, what it takes, and what is wrong with a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gsqc.errors import OptionError
from gsqc.option import Option, check_options, option, options_of
from gsqc.option_texts import parse_options


@dataclass(frozen=True)
class Pair:
    """Two numbers as one text."""

    left: int
    right: int

    @staticmethod
    def parse(text: str) -> Pair:
        left, _, right = text.partition("+")
        if not right:
            raise OptionError(f"--pair {text} is no pair", "write 1+2")
        return Pair(int(left), int(right))


@dataclass(frozen=True)
class Oven:
    """An option of each kind."""

    degrees: int = option(180, help="Heat.", minimum=50, maximum=250, decides_bits=True)
    share: str | float | None = option(None, help="Share.", maximum=1)
    mode: str = option("air", help="Mode.", choices=("air", "grill"))
    dishes: tuple[Path, ...] = option((), help="Dishes.", flag="--dish")
    pair: Pair = option(Pair(1, 2), help="A pair.")
    word: int = option(
        1, help="A number in words.", maximum=9, parse={"one": 1, "two": 2}.__getitem__
    )
    inner: int = 3

    def __post_init__(self) -> None:
        check_options(self, ["--mode grill needs 200"] if self.mode == "grill" else [])


def declared(field: str) -> Option:
    (found,) = (o for o in options_of(Oven) if o.field == field)
    return found


def test_what_the_field_tells() -> None:
    assert [o.name for o in options_of(Oven)] == [
        "degrees",
        "share",
        "mode",
        "dish",
        "pair",
        "word",
    ]
    assert [o.kind for o in options_of(Oven)] == [int, float, str, Path, Pair, int]
    assert [o.field for o in options_of(Oven) if o.is_list] == ["dishes"]
    assert [o.default for o in options_of(Oven)] == [180, None, "air", (), Pair(1, 2), 1]


def test_what_is_taken_in_words() -> None:
    words = ["integer from 50 to 250", "number from 0 to 1", "air|grill", "path", "text"]
    assert [o.takes for o in options_of(Oven)][:5] == words


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("degrees", 49),
        ("degrees", 251),
        ("degrees", 180.0),
        ("degrees", True),
        ("degrees", None),
        ("share", "1.01"),
        ("share", "nan"),
        ("share", "hot"),
        ("share", "1e-999999999"),
        ("mode", "steam"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"--{field} {value} is not"):
        Oven(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("degrees", 50), ("degrees", 250), ("share", None), ("share", "1e-3")]
)
def test_a_value_in_range_is_taken(field: str, value: Any) -> None:
    assert getattr(Oven(**{field: value}), field) == value


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(OptionError, match=r"--degrees 1 .*; --share 2 .*; --mode grill needs"):
        Oven(degrees=1, share=2, mode="grill")


def test_texts_are_parsed_and_every_problem_is_told() -> None:
    read = parse_options(Oven, {"pair": "3+4", "degrees": 90, "word": "two"})
    assert read == Oven(90, pair=Pair(3, 4), word=2)
    with pytest.raises(OptionError) as error:
        parse_options(Oven, {"pair": "3", "degrees": 1, "mode": "steam"})
    for problem in ("--pair 3 is no pair", "--degrees 1", "--mode steam"):
        assert problem in str(error.value)
    assert error.value.hint == "write 1+2"


def test_a_number_without_a_maximum_cannot_be_declared() -> None:
    @dataclass(frozen=True)
    class Endless:
        count: int = option(1, help="Count.")

    with pytest.raises(AssertionError, match="count has no maximum"):
        options_of(Endless)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("degrees", 10**5000),
        ("share", b"1"),
        ("mode", ["air"]),
        ("dishes", "a"),
        ("dishes", (None,)),
        ("dishes", ("a\0b",)),
        ("dishes", ("\udcff",)),
        ("pair", 5),
    ],
    ids=lambda value: str(value)[:9] if isinstance(value, str) else "",
)
def test_a_value_of_another_type_is_no_traceback(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"--{declared(field).name} .* is n"):
        Oven(**{field: value})

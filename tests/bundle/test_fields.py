# SPDX-License-Identifier: Apache-2.0
"""JSON becomes a class only if each field is what its type says. The error names what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pytest

from gsqc.bundle.fields import SHOWN, OneOf, Range, read_fields
from gsqc.bundle.manifest import Manifest
from gsqc.errors import BundleError, DataError
from tests.runtime.small_bundle import manifest


@dataclass(frozen=True)
class Wheel:
    """A number in a range."""

    spokes: Annotated[int, Range(3, 99)]


@dataclass(frozen=True)
class Bicycle:
    """A field of each kind."""

    name: str
    kind: Annotated[str, OneOf(("road", "city"))]
    gears: tuple[str, ...]
    wheels: Mapping[str, Wheel]
    bell: str | None
    notes: Any


GOOD = {"name": "a", "kind": "city", "gears": ["1"], "wheels": {"front": {"spokes": 28}}}


def read(data: Any) -> Bicycle:
    return read_fields(Bicycle, data, "the bicycle", "mend it")


def test_what_fits_is_made() -> None:
    made = read({**GOOD, "more": 1})
    assert made == Bicycle("a", "city", ("1",), {"front": Wheel(28)}, None, None)
    assert read({**GOOD, "bell": "loud", "notes": [1]}).bell == "loud"
    assert read(json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": None}, "name"),
        ({"name": "a\0"}, "name"),
        ({"name": ["a"]}, "name"),
        ({"kind": "race"}, "kind"),
        ({"gears": "123"}, "gears"),
        ({"gears": [1]}, "gears"),
        ({"wheels": []}, "wheels"),
        ({"wheels": {"front": None}}, "wheels.front"),
        ({"wheels": {"front": {}}}, "wheels.front.spokes"),
        ({"wheels": {"front": {"spokes": 2}}}, "wheels.front.spokes"),
        ({"wheels": {"front": {"spokes": 100}}}, "wheels.front.spokes"),
        ({"wheels": {"front": {"spokes": True}}}, "wheels.front.spokes"),
        ({"wheels": {"front": {"spokes": 28.0}}}, "wheels.front.spokes"),
        ({"wheels": {"\0": {"spokes": 28}}}, "wheels"),
        ({"bell": 3}, "bell"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BundleError) as error:
        read({**GOOD, **change})
    assert str(error.value) == f"the bicycle is malformed: {named}"


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(BundleError, match=r"(?m)malformed: name, kind, gears, wheels$"):
        read({})
    with pytest.raises(BundleError, match="it is no object"):
        read([])
    many = {str(k): {"spokes": 0} for k in range(SHOWN + 3)}
    with pytest.raises(BundleError, match=r"wheels\.11\.spokes and 3 more"):
        read({**GOOD, "wheels": many})


def test_the_error_is_that_of_the_caller() -> None:
    with pytest.raises(DataError, match="the bicycle is malformed: name"):
        read_fields(Bicycle, {**GOOD, "name": 3}, "the bicycle", "mend it", DataError)


def test_a_manifest_comes_back_and_names_its_wrong_fields() -> None:
    data = json.loads(json.dumps(manifest().to_json()))
    assert Manifest.from_json(data) == manifest()
    data["model"]["layers"], data["bits"] = 0, "4-8"
    del data["operators"]
    with pytest.raises(BundleError, match=r"(?m)model\.layers, bits, operators$"):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("sequence_length", 8192),
        ("batch", 64),
        ("model.layers", 4096),
        ("model.vocabulary", 1 << 24),
    ],
)
def test_sizes_that_memory_is_made_of_have_their_limits(name: str, most: int) -> None:
    data = json.loads(json.dumps(manifest().to_json()))
    part = data["model"] if "." in name else data
    for value in (most, most + 1, 2**31 - 1):
        part[name.split(".")[-1]] = value
        if value == most:
            Manifest.from_json(data)
            continue
        with pytest.raises(BundleError, match=f"(?m)malformed: {name}$"):
            Manifest.from_json(data)

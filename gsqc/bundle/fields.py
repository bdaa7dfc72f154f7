# SPDX-License-Identifier: Apache-2.0
"""JSON from strangers as frozen dataclasses. The types of the fields say what is accepted.

str                        a text without zero bytes
Annotated[str, OneOf(…)]   one of a few texts
Annotated[int, Range(…)]   a whole number from least to most
tuple[str, ...]            a list of texts
Mapping[str, X]            an object whose values are all X
a dataclass                an object with the fields of the class. Further names are ignored.
Any                        any value, or none
X | None                   X, null, or no such name
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from gsqc.errors import BundleError, GsqcError

T = TypeVar("T")
SHOWN = 12
"""Wrong fields that an error names. It counts the others."""


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a whole number."""

    least: int
    most: int


@dataclass(frozen=True)
class OneOf:
    """The texts that a field may hold."""

    texts: tuple[str, ...]


class Kind(Enum):
    """The kinds of JSON values. A TABLE is an object with any names, and TEXTS a list of texts."""

    ANY = "any"
    OBJECT = "object"
    TABLE = "table"
    TEXT = "text"
    NUMBER = "number"
    TEXTS = "texts"


@dataclass(frozen=True)
class Rule:
    """What a value has to be.

    limits  of a NUMBER
    texts   that a TEXT may be, or () for any
    parts   the rules of an OBJECT's fields by name, or that of a TABLE's values as "*"
    made    the class of an OBJECT
    """

    kind: Kind
    is_optional: bool = False
    limits: Range = Range(0, 0)
    texts: tuple[str, ...] = ()
    parts: Mapping[str, Rule] = field(default_factory=dict)
    made: type[Any] | None = None


def rule_of(hint: Any) -> Rule:
    """The rule that the type of a field stands for."""
    if is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        parts = {f.name: rule_of(hints[f.name]) for f in fields(hint)}
        return Rule(Kind.OBJECT, parts=parts, made=cast(type[Any], hint))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limit = arguments[1]
        if isinstance(limit, Range):
            return Rule(Kind.NUMBER, limits=limit)
        return Rule(Kind.TEXT, texts=limit.texts)
    if origin in (Union, UnionType):
        (inner,) = (a for a in arguments if a is not NoneType)
        return replace(rule_of(inner), is_optional=True)
    if origin is Mapping:
        return Rule(Kind.TABLE, parts={"*": rule_of(arguments[1])})
    simple = {Any: Rule(Kind.ANY, is_optional=True), str: Rule(Kind.TEXT)}
    return Rule(Kind.TEXTS) if origin is tuple else simple[hint]


def read_fields(
    cls: type[T], data: Any, what: str, hint: str, error: type[GsqcError] = BundleError
) -> T:
    """An object of `cls` from JSON data. Raises `error`, which names wrong fields of `what`.

    hint  what the error tells the user to do
    """
    problems: list[str] = []
    made = _read(rule_of(cls), data, "", problems)
    if problems:
        named = ", ".join(problems[:SHOWN])
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise error(f"{what} is malformed: {named}{more}", hint)
    return cast(T, made)


def _is_text(value: Any) -> bool:
    return type(value) is str and "\0" not in value


def _fits(rule: Rule, value: Any) -> bool:
    """Whether a value is of the rule's kind. Its parts are not looked at."""
    match rule.kind:
        case Kind.TEXT:
            return _is_text(value) and (not rule.texts or value in rule.texts)
        case Kind.NUMBER:
            return type(value) is int and rule.limits.least <= value <= rule.limits.most
        case Kind.TEXTS:
            return type(value) is list and all(map(_is_text, value))
        case Kind.OBJECT:
            return type(value) is dict
        case Kind.TABLE:
            return type(value) is dict and all(map(_is_text, value))
    return True


def _read(rule: Rule, value: Any, where: str, problems: list[str]) -> Any:
    """The value as its class wants it. Adds `where` to the problems if it does not fit."""
    if value is None and rule.is_optional:
        return None
    if not _fits(rule, value):
        problems.append(where or "it is no object")
        return None
    start = f"{where}." if where else ""
    if rule.kind is Kind.TABLE:
        part = rule.parts["*"]
        return {name: _read(part, v, f"{start}{name}", problems) for name, v in value.items()}
    if rule.kind is Kind.OBJECT:
        assert rule.made is not None
        return rule.made(
            **{n: _read(p, value.get(n), f"{start}{n}", problems) for n, p in rule.parts.items()}
        )
    return tuple(value) if rule.kind is Kind.TEXTS else value

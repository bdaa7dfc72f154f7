# SPDX-License-Identifier: Apache-2.0
"""A session checks its arguments itself, whoever calls it, before anything is computed."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.data import TokenSequence
from gsqc.errors import DataError, OptionError
from gsqc.runtime.generation import require_drawing
from gsqc.runtime.requirements import require_rates
from gsqc.runtime.session import Session
from tests.runtime.small_bundle import SEQUENCE, VOCABULARY, write_bundle
from tests.test_api_arguments import COUNTS, NAN, NUMBERS, PATHS, TRUTHS, WRONG


def test_numbers_of_a_step_are_checked_below_the_commands() -> None:
    for wrong in ((-1, 0, None), (NAN, 0, None), ("x", 0, None), (0.1, -1, None), (0.1, 0, 0)):
        with pytest.raises(OptionError):
            require_rates(*wrong)
    assert require_rates("1e-3", 0, 1) == require_rates(0.001, "0", "1.0")


def test_drawing_is_checked_below_the_commands() -> None:
    for name in ("max_tokens", "temperature", "seed"):
        for value in WRONG["generate"][name]:
            with pytest.raises(OptionError, match=name):
                require_drawing(**{"max_tokens": 1, "temperature": 0, "seed": 0, name: value})
    assert require_drawing(np.int64(3), 0.5, np.int8(2)) == require_drawing(3, "0.5", 2)


SESSION_WRONG: dict[str, dict[str, list[Any]]] = {
    "__init__": {
        "bundle": [None, 5, "a\0b"],
        "run": PATHS,
        "target": [5, "pdp-11"],
        "threads": [0, *COUNTS],
        "best": [*TRUTHS, None, True],
    },
    "step": {
        "sequences": [None, 5, [], [1], iter([])],
        "learning_rate": [*NUMBERS, None, 2],
        "decay": [*NUMBERS, None, 2],
        "clip": [*NUMBERS, 0],
    },
    "evaluate": {"sequences": [None, 5, [1], iter([])], "watch": []},
    "generate": {name: WRONG["generate"][name] for name in ("max_tokens", "temperature", "seed")}
    | {"prompt": [[], [-1], [VOCABULARY], [1.5], None, 5]},
}


@pytest.mark.parametrize("method", SESSION_WRONG)
def test_a_session_checks_its_arguments(tmp_path: Path, method: str) -> None:
    """This session has nothing to compute with. A new parameter is missing in the table."""
    bundle = write_bundle(tmp_path / "small.gsqc")
    session = object.__new__(Session)
    session.bundle = Bundle.open(bundle)
    session.sequence_length, session.step_count = SEQUENCE, 0
    sequence = TokenSequence(*[np.zeros(SEQUENCE, np.int32) for _ in range(3)])
    given: dict[str, dict[str, Any]] = {
        "__init__": {"bundle": bundle},
        "step": {"sequences": [sequence], "learning_rate": 0.1},
        "evaluate": {"sequences": [sequence]},
        "generate": {"prompt": [1], "max_tokens": 1},
    }
    called = getattr(session, method)
    assert set(inspect.signature(called).parameters) == set(SESSION_WRONG[method])
    for name, values in SESSION_WRONG[method].items():
        for value in values:
            with pytest.raises((OptionError, DataError)):
                called(**{**given[method], name: value})

# SPDX-License-Identifier: Apache-2.0
"""The environment of the harness's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What gsqc tells Hugging Face's packages is taken back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)

# SPDX-License-Identifier: Apache-2.0
"""A side of the fidelity benchmark chooses torch's products for its whole process. These tests
give it back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def own_products() -> Iterator[None]:
    """The precision of products is what it was, once a test ends."""
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    yield
    products.fp32_precision = before

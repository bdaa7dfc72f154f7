# SPDX-License-Identifier: Apache-2.0
"""The largest counts that gsqc takes from a user or a file. gsqc-step has the same (format.h)."""

from __future__ import annotations

MAXIMUM_THREADS = 1024
MAXIMUM_STEPS = 2**31 - 1
"""Steps of a run."""
MAXIMUM_SEQUENCE_LENGTH = 8192
"""Tokens of a sequence."""
MAXIMUM_SEQUENCES = 64
"""Sequences whose gradients a step can sum: 32-bit accumulators hold no more."""
MAXIMUM_RANK = 256
"""Rows of an adapter's first matrix."""
MAXIMUM_LAYERS = 4096
MAXIMUM_VOCABULARY = 1 << 24

# SPDX-License-Identifier: Apache-2.0
"""The largest counts that gsqc takes from a user or a file. gsqc-step has the same (format.h)."""

from __future__ import annotations

MAXIMUM_THREADS = 1024
MAXIMUM_STEPS = 2**31 - 1
"""Steps of a run."""
MAXIMUM_EPOCHS = 10**6
"""Passes over the data."""
MAXIMUM_SEQUENCE_LENGTH = 8192
"""Tokens of a sequence."""
MAXIMUM_SEQUENCES = 64
"""Sequences whose gradients a step can sum: 32-bit accumulators hold no more."""
MAXIMUM_RANK = 256
"""Rows of an adapter's first matrix."""
MAXIMUM_LAYERS = 4096
MAXIMUM_VOCABULARY = 1 << 24

MAXIMUM_COUNT = 2**31 - 1
"""What is counted but takes no memory: steps between saves, sequences of a data set."""
MAXIMUM_SEED = 2**31 - 1
MAXIMUM_CHECK_STEPS = 10_000
"""Steps of a check. Their sequences and digests are held in memory."""
MAXIMUM_LISTED_STEPS = 1 << 22
"""Steps of a token file, which lists the sequences of each."""
MAXIMUM_NEW_TOKENS = 1 << 20
"""Tokens that are generated after a prompt."""
MAXIMUM_TEMPERATURE = 100
MAXIMUM_CLIP = 10**6
"""Norm of a gradient."""
MAXIMUM_MIB = 1 << 24
"""Memory in MiB that a user may name: 16 TiB."""

# SPDX-License-Identifier: Apache-2.0
"""The memory and the disk space of a fine-tune, in parts."""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.bundle.plan import Plan

PROCESS_BYTES = 115_000_000
"""Python with numpy, the plan, the libraries and the data; measured on x86-64 Linux (docs/plan.md).
"""
TOKENIZER_BYTES = 860
"""A token of the vocabulary, in the tokenizer; measured with 49,152 tokens."""
CODE_BYTES = 3_000_000
"""The code of the kernels. Only a compilation knows this part of a bundle, and it hardly depends on
the model.
"""


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes that a training session holds at its peak.

    arena      what lives within a step: activations and scratch          \
    prepared   operands of the base in 8 bits (with --weights fast)        |
    state      adapter and the optimizer's state                           | from the plan, exact
    gradient   sums over the sequences of a step (with a batch above 1)    |
    transfer   inputs and outputs                                         /
    process    Python, plan and tokenizer: measured once, not on this machine
    """

    arena: int
    prepared: int
    state: int
    gradient: int
    transfer: int
    process: int

    @property
    def planned(self) -> int:
        """Without the process."""
        return self.arena + self.prepared + self.state + self.gradient + self.transfer

    @property
    def peak(self) -> int:
        """With the process."""
        return self.process + self.planned


def memory_of(plan: Plan, vocabulary: int, batch: int) -> MemoryNeeds:
    """The parts for a step of `batch` sequences."""
    return MemoryNeeds(
        arena=plan.arena_bytes,
        prepared=plan.buffer_bytes("prepared"),
        state=plan.buffer_bytes("state"),
        gradient=plan.buffer_bytes("gradient") if batch > 1 else 0,
        transfer=plan.buffer_bytes("input", "output"),
        process=PROCESS_BYTES + TOKENIZER_BYTES * vocabulary,
    )


def disk_bytes(plan: Plan, tokenizer_bytes: int) -> dict[str, int]:
    """What a bundle takes (its code is an estimate), and a run with its last and its best state."""
    base, state = plan.buffer_bytes("base"), plan.buffer_bytes("state")
    return {"bundle": base + state + tokenizer_bytes + CODE_BYTES, "run": 2 * state}

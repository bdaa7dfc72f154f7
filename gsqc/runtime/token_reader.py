# SPDX-License-Identifier: Apache-2.0
"""TokenReader: reads tokens one by one or in chunks and gives the logits after the last of them.

Their keys and values join a cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gsqc.bundle.plan import Plan
from gsqc.runtime.executor import Executor
from gsqc.runtime.sampling import Chunk
from gsqc.targets.interface import Array

ONE = ("decode", "token", "position")
SEVERAL = ("prefill", "chunk", "chunk_positions")
"""A schedule and its two inputs: the tokens and their positions."""


def logits_of(tensors: Mapping[str, Array]) -> list[Chunk]:
    """The logits that the head of generation made last, in chunks of the vocabulary.

    Each chunk has its mantissas and their exponent. The arrays are the session's own memory.
    """
    chunks = sum(name.startswith("logits_") and name.endswith(".m") for name in tensors)
    return [(tensors[f"logits_{k}.m"], int(tensors[f"logits_{k}.e"][0])) for k in range(chunks)]


class TokenReader:
    """Reads tokens with the schedules of a session's executor.

    `position` is the position of the next token. If the plan has a prefill, several tokens are read
    at once, with the same bits as one after the other.
    """

    def __init__(self, executor: Executor, plan: Plan) -> None:
        self.executor, self.plan, self.position = executor, plan, 0
        self.most = plan.buffers["input"]["chunk"].count if "prefill" in plan.schedules else 1

    def start(self) -> None:
        """Forget all tokens, and take the adapter as it is now."""
        self.position = 0
        for name in self.plan.buffers["cache"]:
            self.executor.tensors[name].fill(0)
        if "prepare_decode" in self.plan.schedules:
            self.executor.run("prepare_decode")

    def read(self, tokens: Sequence[int]) -> list[Chunk]:
        """The logits after these tokens, of which there is at least one.

        The arrays are valid until the next call.
        """
        for start in range(0, len(tokens), self.most):
            self._read_part(tokens[start : start + self.most])
        return logits_of(self.executor.tensors)

    def _read_part(self, tokens: Sequence[int]) -> None:
        """Read at most one chunk. A short chunk is filled with copies of its last token.

        The copies have that token's position, so they write the same keys and values once more.
        """
        count = len(tokens)
        schedule, *names = ONE if count == 1 else SEVERAL
        for name, values in zip(
            names, (tokens, range(self.position, self.position + count)), strict=True
        ):
            tensor = self.executor.tensors[name]
            tensor[:count], tensor[count:] = values, values[-1]
        self.executor.run(schedule)
        self.position += count

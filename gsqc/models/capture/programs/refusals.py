# SPDX-License-Identifier: Apache-2.0
"""What both kinds of programs are refused for: their operators, inputs and results."""

from __future__ import annotations

from pathlib import Path

from gsqc.errors import ModelError, UnsupportedOperatorError
from gsqc.models.capture.problems import MISSING
from gsqc.models.capture.programs.tracer import Node, Value


def require_none(unknown: dict[str, str], hint: str) -> None:
    """UnsupportedOperatorError if there are unknown operators, with the line of each one's first
    use.
    """
    if unknown:
        lines = [f"{kind} at {line}" for kind, line in unknown.items()]
        text = f"{MISSING}: {', '.join(unknown)}"
        raise UnsupportedOperatorError("\n  ".join([text, *lines]), hint)


def require_length(path: Path, name: str, sizes: list[int | None], tokens: int) -> None:
    """ModelError unless an input may have the shape [1, T]. None stands for a size that is free."""
    if len(sizes) != 2 or sizes[0] not in (None, 1):
        raise ModelError(
            f"{path.name} takes {name[:100]} of the shape {sizes}",
            "export it for one sequence, [1, T]",
        )
    if sizes[1] not in (None, tokens):
        raise ModelError(
            f"{path.name} was exported for sequences of {sizes[1]} tokens",
            f"compile with --seq {sizes[1]}, or export it with a free length",
        )


def unknown_input(path: Path, name: str) -> ModelError:
    """The error of an input that has no meaning for gsqc."""
    return ModelError(
        f"{path.name} takes an input {name[:100]} that gsqc does not know",
        "export the model with input_ids, attention_mask and position_ids",
    )


def no_tokens(path: Path) -> ModelError:
    """The error of a program without an input of token ids."""
    return ModelError(f"{path.name} has no input of token ids", "gsqc compiles language models")


def require_logits(path: Path, result: Value) -> Value:
    """The result. Raises ModelError if it does not depend on the tokens."""
    if not isinstance(result, Node):
        raise ModelError(
            f"{path.name} gives no logits that depend on its tokens",
            "export the whole language model, with its head",
        )
    return result

# SPDX-License-Identifier: Apache-2.0
"""Where a node comes from: the user's source line, the module's path, the decoder layer's index."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import torch
import transformers

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]+\n\s*(?P<code>[^\n]*)')
_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks)\.(\d+)(?:\.|$)")
_TRANSFORMERS = Path(transformers.__file__).parent
_INSIDE = (  # what lies between the user's code and torch
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent),
    *(
        str(_TRANSFORMERS / part)
        for part in (
            "activations.py",
            "modeling_layers.py",
            "pytorch_utils.py",
            "utils",
            "integrations",
        )
    ),
)


def source_line(meta: dict[str, Any]) -> str:
    """'file.py:123: code' of the innermost frame that is neither torch's nor ours, or 'unknown
    source'.
    """
    frames = [
        f
        for f in _FRAME.finditer(meta.get("stack_trace") or "")
        if not f["file"].startswith(_INSIDE)
    ]
    if not frames:
        return "unknown source"
    return f"{Path(frames[-1]['file']).name}:{frames[-1]['line']}: {frames[-1]['code'].strip()}"


def raising_line(error: BaseException) -> str:
    """The innermost line of the user's that an exception came through, in the form of
    `source_line`.
    """
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_INSIDE)
    ]
    if not frames:
        return "unknown source"
    return (
        f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {(frames[-1].line or '').strip()}"
    )


def module_path(meta: dict[str, Any], prefix: str) -> str:
    """The path of the module that the node was made in, without `prefix`:
    model.layers.0.self_attn.q_proj.
    """
    stack = list((meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return path.removeprefix(prefix).removeprefix(".")


def layer_index(path: str) -> int | None:
    """The decoder layer in a module path, or None."""
    found = _LAYER.search(path)
    return int(found[1]) if found else None


def source_lines(graph: torch.fx.Graph) -> dict[str, str]:
    """For each kind of node of a captured model, by its name, the user's source line of the first
    one.
    """
    lines: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "call_function" and "source" in node.meta:
            lines.setdefault(node.target.__name__, str(node.meta["source"]))
    return lines

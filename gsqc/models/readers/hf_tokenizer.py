# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a model's directory, as the text of a tokenizer.json.

Older directories have vocab.json and merges.txt, or tokenizer.model. transformers converts them,
in a process with limits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from gsqc.models.readers.text_files import read_object, read_text

_FILE = "tokenizer.json"
_OLDER = (("vocab.json", "merges.txt"), ("tokenizer.model",), ("tiktoken.model",))
"""Files that make a tokenizer together."""
_PROGRAM = Path(__file__).with_name("tokenizer_program.py")


def tokenizer_of(path: Path) -> tuple[str | None, str]:
    """The text of a tokenizer.json, or None, and where it came from or why there is none.

    Raises ModelError if tokenizer.json is there and damaged.
    """
    read_object(path / _FILE)
    text = read_text(path / _FILE)
    if text is not None:
        return text, _FILE
    for names in _OLDER:
        if all((path / name).is_file() for name in names):
            return _converted(path, " and ".join(names))
    return None, f"none: the directory has no {_FILE}"


def _converted(path: Path, files: str) -> tuple[str | None, str]:
    """The tokenizer that transformers makes of other files, if it makes the same tokens."""
    named = read_object(path / "tokenizer_config.json").get("tokenizer_class")
    arguments = [str(path), named if isinstance(named, str) and "\0" not in named else ""]
    # -P keeps the program from importing modules of its own folder, and -B from writing files.
    done = subprocess.run(
        [sys.executable, "-P", "-B", str(_PROGRAM), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        answer = {"error": f"its process ended with exit code {done.returncode}"}
    if "tokenizer" in answer:
        return str(answer["tokenizer"]), f"converted by transformers from {files}"
    needs = "; pip install sentencepiece may help" if "tokenizer.model" in files else ""
    return None, f"none: transformers cannot convert {files} ({answer['error']}{needs})"

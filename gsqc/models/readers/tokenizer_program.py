# SPDX-License-Identifier: Apache-2.0
"""Converts the tokenizer of a directory by transformers, in a process with limits.

    python tokenizer_program.py DIR CLASS

CLASS is the class that tokenizer_config.json names, or "".
A stranger's vocabulary may make the library of tokenizers abort, or take all of a machine. stdout
gets a line with a JSON object: the text of a tokenizer.json below "tokenizer", or "error".
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

_PROBE = "Hello world, it's 2024!  Two  spaces,\n\ttabs; ça va? 你好"
_LEAST = 2
"""Tokens of a tokenizer. transformers makes an empty one of files that it does not understand."""
_CPU_SECONDS, _MEMORY_BYTES = 300, 16 << 30
_FILE_BYTES = 1 << 20
"""transformers looks for a folder for temporary files by writing one."""


def _limit_process() -> None:
    """Limit time, memory and files. A platform without `resource` has no limits."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _theirs(path: Path, named: str) -> Any:
    """transformers' tokenizer of a directory: by the model's type, else of the class `named`."""
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        return transformers.AutoTokenizer.from_pretrained(path, **options)
    except Exception:
        # Models that see have no tokenizer of their own type, but name that of their text part.
        if not named.endswith(("Tokenizer", "TokenizerFast")):
            raise
        return getattr(transformers, named).from_pretrained(path, **options)


def convert(path: Path, named: str) -> dict[str, str]:
    """The text of a tokenizer.json that makes transformers' tokens, or why there is none."""
    from tokenizers import Tokenizer

    try:
        theirs = _theirs(path, named)
        text: str = theirs.backend_tokenizer.to_str()
        ours = Tokenizer.from_str(text)
        same = ours.encode(_PROBE).ids == theirs(_PROBE)["input_ids"]
    except Exception as error:  # transformers raises errors of many types
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return {
            "error": lines[0][:200].removesuffix(" from one of: ").removesuffix(" from one of:")
        }
    if ours.get_vocab_size() < _LEAST or not same:
        return {"error": "the conversion makes other tokens"}
    return {"tokenizer": text}


if __name__ == "__main__":
    _limit_process()
    print(json.dumps(convert(Path(sys.argv[1]), sys.argv[2])), flush=True)

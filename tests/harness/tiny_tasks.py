# SPDX-License-Identifier: Apache-2.0
"""Tasks of a few items for the tiny bundle: choices, a text, answers. They need no data of others.

The bundle's tokens are bytes and its sequences have 24, so some contexts are too long on purpose.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

CHOICES = [
    {"q": "One and one", "c": ["two", "three", "a"], "gold": 0},
    {"q": "The sky is", "c": ["blue", "green"], "gold": 0},
    {"q": "A very long question that no sequence holds", "c": ["yes", "no"], "gold": 1},
    {"q": "A choice as long as this", "c": ["so long that it fills", "x"], "gold": 1},
    {"q": "Äöü €", "c": ["ß", "😀"], "gold": 1},
]
LETTERS = [
    {"q": "Which?", "c": ["A", "B", "C", "D"], "gold": 2},
    {"q": "Which of the many, many letters?", "c": ["A", "B", "C", "D"], "gold": 0},
]
TEXTS = ["Rain.", "The rain in Spain stays mainly in the plain, they say. " * 2]
ANSWERS = [
    {"q": "Count:", "a": "1 2"},
    {"q": "A question whose end alone is read by the model:", "a": "x"},
]

_DATA = """
import datasets
from tests.harness import tiny_tasks as tiny

def rows(part, **_):
    found = getattr(tiny, part)
    found = [{"text": text} for text in found] if part == "TEXTS" else found
    return {"test": datasets.Dataset.from_list(found)}

def fail(doc, results):
    raise ValueError(f"no metric of {len(results)} results")
"""
_COMMON = """
    task: {name}
    custom_dataset: !function data.rows
    dataset_kwargs: {{part: {part}}}
    test_split: test
"""
_CHOICE = """
    output_type: multiple_choice
    doc_to_text: "{{q}}:"
    doc_to_choice: c
    doc_to_target: gold
    metric_list:
      - {metric: acc, aggregation: mean, higher_is_better: true}
"""
_ROLLING = """
    output_type: loglikelihood_rolling
    doc_to_text: ""
    doc_to_target: "{{text}}"
    metric_list:
      - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
_GENERATE = """
    output_type: generate_until
    doc_to_text: "{{q}}"
    doc_to_target: a
    generation_kwargs: {until: ["\\n", "5"], max_gen_toks: 6, do_sample: false}
    metric_list:
      - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
TASKS = {
    "tiny_choices": ("CHOICES", _CHOICE),
    "tiny_letters": ("LETTERS", _CHOICE),
    "tiny_texts": ("TEXTS", _ROLLING),
    "tiny_answers": ("ANSWERS", _GENERATE),
}


@pytest.fixture(scope="session")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task files, and those of tasks that cannot be opened, fail, or run code."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "data.py").write_text(_DATA)
    for name, (part, rest) in TASKS.items():
        text = dedent(_COMMON).format(name=name, part=part) + dedent(rest)
        (folder / f"{name}.yaml").write_text(text)
    broken = dedent(_COMMON).format(name="tiny_broken", part="NOTHING") + dedent(_CHOICE)
    (folder / "tiny_broken.yaml").write_text(broken)
    text = (folder / "tiny_letters.yaml").read_text()
    failing = f"{text}process_results: !function data.fail\n".replace("letters", "failing")
    (folder / "tiny_failing.yaml").write_text(failing)
    (folder / "tiny_unsafe.yaml").write_text(
        f"{text}unsafe_code: true\n".replace("letters", "unsafe")
    )
    return folder

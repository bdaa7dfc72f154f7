# SPDX-License-Identifier: Apache-2.0
"""The two texts, as files of records with prompt and completion.

bierce  the demo's: definitions of The Devil's Dictionary, 819 to train on and 117 held out
foldoc  definitions of 20 to 70 words from The Free On-line Dictionary of Computing, which Debian's
        package dict-foldoc holds: 700 to train on, 60 held out, in an order fixed by a seed
"""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
PARTS = ("train", "heldout")
PACKAGE, INSTALLED = "dict-foldoc", "usr/share/dictd/foldoc.dict.dz"
FEWEST_WORDS, MOST_WORDS, TRAINED, HELD_OUT, SEED = 20, 70, 700, 60, 5
_ARTICLE = re.compile(r"(?m)^(\S[^\n]*)\n\n((?:   [^\n]*\n|\n)+)")


def find_foldoc(file: Path | None, download: bool) -> Path:
    """The dictionary of dict-foldoc: the named file, the installed one, or a downloaded one."""
    place = file or Path("/", INSTALLED)
    if place.exists():
        return place
    if not download:
        raise SystemExit(
            f"{place} is missing: apt-get install {PACKAGE}, name the file with --foldoc, "
            "or give --download"
        )
    folder = Path(tempfile.mkdtemp(prefix="gsqc-fidelity-"))
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
    package = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder / INSTALLED


def definitions(dictionary: str) -> list[dict[str, str]]:
    """Records of the articles that are one definition of 20 to 70 words.

    Cross references lose their braces, and an article its first number with <subject> and its last
    (date). Left out are articles that begin with a number alone, and those with more than two
    references in brackets.
    """
    records = []
    for headword, body in _ARTICLE.findall(dictionary):
        text = re.sub(r"\s+", " ", re.sub(r"[{}]", "", body)).strip()
        text = re.sub(r"^(?:\d+\. )?<[^>]*> ?", "", text)
        text = re.sub(r" ?\(\d{4}-\d\d-\d\d\)$", "", text)
        fits = FEWEST_WORDS <= len(text.split()) <= MOST_WORDS
        left_out = "1." in text[:4] or text.count("[") > 2
        if fits and not left_out and not headword.startswith("00-"):
            prompt = f"Define {headword} as a dictionary of computing does."
            records.append({"prompt": prompt, "completion": text})
    return records


def write_foldoc(dictionary: Path, folder: Path) -> None:
    """folder/foldoc-train.jsonl and folder/foldoc-heldout.jsonl."""
    with gzip.open(dictionary, "rt", errors="ignore") as file:
        records = definitions(file.read())
    random.Random(SEED).shuffle(records)
    chosen = {"train": records[:TRAINED], "heldout": records[TRAINED : TRAINED + HELD_OUT]}
    folder.mkdir(parents=True, exist_ok=True)
    for part, of_part in chosen.items():
        lines = "".join(json.dumps(record) + "\n" for record in of_part)
        (folder / f"foldoc-{part}.jsonl").write_text(lines, encoding="utf-8")


def text_files(
    text: str, folder: Path, foldoc: Path | None = None, download: bool = False
) -> dict[str, Path]:
    """The file of each part of a text. FOLDOC's are made in `folder` unless they are there."""
    if text == "bierce":
        return {part: EXAMPLES / f"devils-dictionary-{part}.jsonl" for part in PARTS}
    files = {part: folder / f"foldoc-{part}.jsonl" for part in PARTS}
    if not all(file.exists() for file in files.values()):
        write_foldoc(find_foldoc(foldoc, download), folder)
    return files


TEXTS = ("bierce", "foldoc")

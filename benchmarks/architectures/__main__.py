# SPDX-License-Identifier: Apache-2.0
"""Which architectures of transformers does gsqc take, and is what it makes of them right?

    python -m benchmarks.architectures
    python -m benchmarks.architectures --compile --only llama --only olmo2
    python -m benchmarks.architectures --list

Each family is a tiny model with random weights, of two layers or as many as its pattern needs.

* Capture: the model is captured, or refused with a sentence.
* Logits: those of the captured graph against transformers'.
* --compile: a bundle for native, digests against numpy's, losses against the float model that has
  the bundle's weights, 15 steps against float PEFT, and exports loaded back.

Each row becomes a line of rows.jsonl in --output, and rows that are there already are skipped. The
table, of all that is in the file, is written last.

The exit code is 1 if a captured graph has other logits than transformers. It is 1 too if something
failed in another way than by an error of gsqc's. And it is if the list of `gsqc models`
(gsqc/models/families.py) says otherwise than the rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.architectures.claims import differences
from benchmarks.architectures.encoders import ENCODERS
from benchmarks.architectures.families import FAMILIES, Family
from benchmarks.architectures.stages import Row, run_family
from benchmarks.architectures.table import table


def read_rows(file: Path) -> dict[str, Row]:
    """The rows of an earlier run by name."""
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = [Row(**json.loads(line)) for line in lines if line]
    return {row.name: row for row in rows}


def chosen(names: list[str]) -> list[Family]:
    """The families of these names, or all."""
    known = {family.name: family for family in (*FAMILIES, *ENCODERS)}
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no family {name}: --list shows them")
    return [known[name] for name in names] if names else list(known.values())


def show(row: Row) -> None:
    """Print a line about a row."""
    logits = "" if row.logits is None else f", logits {row.logits:.0e}"
    said = row.error.splitlines()[0] if row.error else ""
    print(f"{row.name:22s} {row.state}{logits} {said} {row.further or ''}", flush=True)


def main() -> int:
    """Run what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the families and stop")
    parser.add_argument("--compile", action="store_true", help="also make and try a bundle")
    parser.add_argument("--output", type=Path, default=Path("architectures"))
    arguments = parser.parse_args()
    families = chosen(arguments.only)
    if arguments.list:
        print("\n".join(f"{family.name:22s} {family.type}" for family in families))
        return 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "rows.jsonl"
    for family in families:
        done = read_rows(file).get(family.name)
        if done is not None and (done.further or not arguments.compile or done.state != "captured"):
            continue
        with tempfile.TemporaryDirectory(prefix="gsqc-architectures-") as folder:
            row = run_family(family, Path(folder), whole=arguments.compile)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(row)) + "\n")
        show(row)
    rows = list(read_rows(file).values())
    (arguments.output / "table.md").write_text(table(rows), encoding="utf-8")
    print(f"wrote {arguments.output / 'table.md'}")
    wrong = [row.name for row in rows if row.is_fault]
    if wrong:
        print(f"wrong: {', '.join(wrong)}")
    for line in (claims := differences(rows)):
        print(f"gsqc models: {line}")
    return int(bool(wrong or claims))


if __name__ == "__main__":
    raise SystemExit(main())

# SPDX-License-Identifier: Apache-2.0
"""The golden file of the real model: what examples/demo.sh prints, with its own settings.

Written anew by `make golden-demo`, which takes some minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).parent / "demo.txt"
SCRIPT = Path(__file__).parents[2] / "examples" / "demo.sh"
_SPEED = re.compile(
    r" for \S+ in \d+ s$|  [\d.]+ tokens/s|, [\d.]+ tokens/s|^a step takes .*\n", re.M
)
"""What depends on the machine: its target, and how fast it is."""


def facts_of(printed: str, folder: str) -> str:
    """The output of a demo that wrote to `folder`, without what depends on machine and place."""
    return _SPEED.sub("", printed).replace(folder, "OUT")


def run_demo(folder: Path) -> str:
    """Run the demo in `folder`: its facts."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(SCRIPT), str(folder)],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return facts_of(done.stdout, str(folder))


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(run_demo(Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()

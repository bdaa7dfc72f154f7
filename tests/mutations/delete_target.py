# SPDX-License-Identifier: Apache-2.0
"""Is a target really a folder that can be deleted? Copies the tree, deletes the folder and its
tests, and runs the tests that are not slow.

    python -m tests.mutations.delete_target cuda [PYTEST OPTIONS]

Exits with pytest's status. The tests of prose are left out: pages still name the target's files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutations.run import TREE

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)


def copy_without(target: str, place: Path) -> Path:
    """The tree without a target's folder and tests, in a folder of its own."""
    tree = place / "tree"
    shutil.copytree(TREE, tree, ignore=_LEFT_OUT)
    folders = [tree / where / target for where in ("gsqc/targets", "tests/targets")]
    if not (folders[0] / "target.py").is_file():
        raise SystemExit(f"gsqc/targets/{target} is no target")
    for folder in folders:
        shutil.rmtree(folder)
    return tree


def main(arguments: list[str]) -> int:
    """Delete the target that is named, and run pytest with the other arguments."""
    if not arguments:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(prefix="gsqc-without-") as folder:
        tree = copy_without(arguments[0], Path(folder))
        # The copy's own modules, though gsqc may be installed from the tree.
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        program = "import gsqc, gsqc.cli.app, gsqc.compiler.options; print(gsqc.__file__)"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tree, env=environment)
        options = ["-q", "-m", "not slow", "--ignore=tests/docs/test_prose.py", *arguments[1:]]
        command = [sys.executable, "-m", "pytest", *options]
        return subprocess.run(command, check=False, cwd=tree, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

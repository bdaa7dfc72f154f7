# SPDX-License-Identifier: Apache-2.0
"""The workflow file of docs/ci.md runs as it stands, and fails when the bits differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gsqc.cli.main import main

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "ci" / "gsqc-check.yml"


def run_workflow(folder: Path, job: dict[str, Any], row: dict[str, str]) -> list[int]:
    """Run each `run:` line of a job in `folder`, for one row of its matrix: the exit codes."""
    variables = dict(job["env"])
    for name, value in variables.items():
        for key, chosen in row.items():
            variables[name] = variables[name].replace(f"${{{{ matrix.{key} }}}}", chosen)
        assert "${{" not in variables[name], value
    environment = {
        **os.environ,
        **variables,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PIP_NO_INDEX": "1",  # gsqc is installed already, and a test downloads nothing
    }
    return [
        subprocess.run(step["run"], shell=True, cwd=folder, env=environment, check=False).returncode
        for step in job["steps"]
        if "run" in step
    ]


@pytest.fixture
def job() -> dict[str, Any]:
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    assert isinstance(job, dict)
    return job


def test_the_workflow(bundle: Path, tmp_path: Path, job: dict[str, Any]) -> None:
    rows = job["strategy"]["matrix"]["include"]
    assert {row["runner"] for row in rows} == {"ubuntu-24.04", "ubuntu-24.04-arm"}
    row = next(row for row in rows if not row["runner"].endswith("-arm"))
    place = tmp_path / row["bundle"]
    place.parent.mkdir()
    place.symlink_to(bundle)
    golden = tmp_path / job["env"]["GOLDEN"]
    assert main(["check", str(bundle), "--golden", str(golden), "--update"]) == 0
    assert run_workflow(tmp_path, job, row) == [0, 0, 0]
    content = json.loads(golden.read_text())
    content["steps"][2] = "0" * 64
    golden.write_text(json.dumps(content))
    assert run_workflow(tmp_path, job, row) == [0, 0, 1]

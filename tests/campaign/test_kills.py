# SPDX-License-Identifier: Apache-2.0
"""What the campaign takes for the same result of a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.campaign.kills import tree_of


@pytest.mark.parametrize(
    ("change", "is_same"),
    [({"golden": {"target": "numpy"}}, True), ({"golden": None}, True), ({"seed": 1}, False)],
)
def test_first_digests_may_be_taken_elsewhere(
    tmp_path: Path, change: dict[str, object], is_same: bool
) -> None:
    """A bundle is whole without them: a disk may have had no room for code that takes them."""
    trees = []
    for name, changed in (("a", {}), ("b", change)):
        (tmp_path / name).mkdir()
        manifest = {"seed": 0, "golden": {"target": "native"}} | changed
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        trees.append(tree_of(tmp_path / name))
    assert (trees[0] == trees[1]) is is_same


def test_a_manifest_that_is_cut_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    whole = tree_of(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert tree_of(tmp_path) != whole

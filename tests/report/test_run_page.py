# SPDX-License-Identifier: Apache-2.0
"""Pages show what runs hold, and nothing in a run's files becomes markup."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.errors import RunError
from gsqc.report.charts import Line, heat_map, line_chart, smooth, thin, ticks
from gsqc.report.compare import compare_page, differences, run_names
from gsqc.report.run_files import read_run
from gsqc.report.run_page import Measured, run_page
from tests.runtime.small_bundle import STATE, other_state, write_bundle

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J&lt;'


def entry(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "loss": 4.0 / step,
        "tokens": 10,
        "tokens_per_second": 5.0,
        "digest": f"{step:064x}",
        **more,
    }


def write_run(path: Path, lines: list[Any], config: Any = None) -> Path:
    path.mkdir(parents=True)
    (path / "log.jsonl").write_text(
        "".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines)
    )
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that tags are closed."""

    VOID = ("meta", "line", "polyline", "circle", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(html: str) -> Tags:
    """It has no script, no request and no handler."""
    tags = Tags(html)
    assert not {"script", "img", "link", "iframe", "a", "object", "embed"} & set(tags.names)
    assert not {
        name for name, _ in tags.attributes if name.startswith("on") or name in ("src", "href")
    }
    assert "http" not in html.replace("http-equiv", "")
    assert "\x1b" not in html
    return tags


def test_what_a_page_shows(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "validation_loss": 4.5},
        entry(1),
        entry(2, validation_loss=3.5, learning_rate=1e-3),
    ]
    run = read_run(write_run(tmp_path / "notes", lines, {"lr": "1e-3"}))
    assert (run.steps, run.digest, run.tokens, run.seconds) == (2, f"{2:064x}", 20, 4)
    measured = Measured(
        memory=[("activations", 5 << 20)],
        op_seconds=[("linear", 0.3), ("softmax", 0.1)],
        exponents=[{-8: 0.25, -7: 0.75}],
        operand_bits=[{7: 1.0}],
        samples=[("Define LIBERTY.", "Freedom.", "A possession.")],
    )
    tags = check_page(run_page(run, measured))
    for text in (
        "Run notes",
        "2.000",
        "3.500",
        "4.500 at first",
        "5.0 MiB",
        "300.0 ms",
        "75 %",
        "A possession.",
        "1e-3",
    ):
        assert text in tags.text
    assert f"{2:064x}" in tags.text


def test_nothing_becomes_markup(tmp_path: Path) -> None:
    lines = [entry(1, digest=HOSTILE), entry(2, loss=HOSTILE), {"step": 3, HOSTILE: 1, "loss": 1.0}]
    path = write_run(
        tmp_path / "x<script>y",
        lines,
        {HOSTILE: HOSTILE, "bundle_path": HOSTILE, "lr": {HOSTILE: [HOSTILE]}},
    )
    run = read_run(path)
    measured = Measured(
        memory=[(HOSTILE, 1)],
        op_seconds=[(HOSTILE, 1.0)],
        stored=[(HOSTILE, HOSTILE, HOSTILE)],
        adapters=[(HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
        samples=[(HOSTILE, HOSTILE, HOSTILE)],
        bundle={"model": HOSTILE, "bits": HOSTILE},
        notes=[HOSTILE],
    )
    assert "alert(1)" in check_page(run_page(run, measured)).text
    assert "alert(1)" in check_page(compare_page([run, replace(run, config={})])).text


def test_lines_that_are_no_steps_are_left_out(tmp_path: Path) -> None:
    bad = [
        "no json\n",
        "[]\n",
        '{"step": "1"}\n',
        '{"step": -1}\n',
        '{"step": true}\n',
        "[" * 100_000 + "\n",
        "\xff\n",
    ]
    odd = [
        '{"step": 5, "loss": NaN, "tokens": 1e999, "learning_rate": true, "peak_rss_bytes": '
        + "9" * 400
        + "}\n"
    ]
    run = read_run(
        write_run(tmp_path / "run", [entry(4), *bad, *odd, entry(4, loss=0.5)], "[" * 100_000)
    )
    assert [e.step for e in run.entries] == [4, 5]
    assert run.series("loss") == ([4], [0.5])
    assert run.entries[1].numbers == {}
    assert (run.skipped, run.config) == (len(bad), {})
    check_page(run_page(run, Measured()))


def test_runs_that_cannot_be_shown(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "nothing", ["{}\n"])
    for name, text in (
        ("absent", "no run directory"),
        ("empty", "has no log"),
        ("nothing", "no line of"),
    ):
        with pytest.raises(RunError, match=text):
            read_run(tmp_path / name)


def test_curves_stay_inside_and_short() -> None:
    assert ticks(0, 1, 5) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(3, 3)[0] < 3 < ticks(3, 3)[-1]
    assert smooth([2.0, 2.0, 2.0], 5) == pytest.approx([2.0, 2.0, 2.0])
    long = Line("a", list(range(10_000)), [float(k) for k in range(10_000)])
    assert len(thin(long).values) == 500
    assert sum(thin(long).values) / 500 == pytest.approx(4999.5)
    for values in (
        [],
        [1.0],
        [0.0, 0.0],
        [-1e14, 1e14],
        [1e-12, 2e-12],
        [-3.0, -1.0],
        [1e14, 1e14 + 0.02],
    ):
        lines = [Line("a", list(range(len(values))), values)]
        Tags(line_chart(lines, "a") + line_chart(lines, "a", from_zero=True))
    Tags(heat_map([{}], "e", "e"))
    Tags(heat_map([{-100: 1.0}, {100: 1.0}] * 40, "e", "e"))


def test_runs_are_told_apart(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / p, [entry(1)], {"lr": lr, "seed": 1})
        for p, lr in (("a/run", "1"), ("b/run", "2"))
    ]
    runs = [read_run(p) for p in paths]
    assert run_names(runs) == ["a/run", "b/run"]
    assert differences(runs) == [["lr", "1", "2"]]


Capture = pytest.CaptureFixture[str]


def test_compare_prints_a_table_and_writes_a_page(tmp_path: Path, capsys: Capture) -> None:
    runs = [write_run(tmp_path / n, [entry(1), entry(2)], {"lr": n}) for n in ("one", "two")]
    page = tmp_path / "compare.html"
    assert main(["compare", *map(str, runs), "-o", str(page)]) == 0
    out = capsys.readouterr().out
    assert "3.0000" in out or "2.0000" in out
    assert "all digests are equal" in out
    assert "lr: one one, two two" in out
    check_page(page.read_text())
    assert main(["compare", *map(str, runs), "-o", str(page)]) == 2
    assert main(["compare", str(runs[0])]) == 2
    assert main(["compare", str(runs[0]), str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    assert main(["compare", *map(str, runs), "--json"]) == 0
    assert [json.loads(line)["steps"] for line in capsys.readouterr().out.splitlines()] == [2, 2]


def test_report_without_its_bundle_says_so(tmp_path: Path, capsys: Capture) -> None:
    run = write_run(tmp_path / "run", [entry(1)], {"bundle_path": str(tmp_path / "gone.gsqc")})
    assert main(["report", str(run)]) == 0
    assert "no such bundle" in capsys.readouterr().out
    assert "no such bundle" in check_page((run / "report.html").read_text()).text
    assert main(["report", str(run), "--bundle", str(tmp_path / "gone.gsqc")]) == 2
    assert main(["report", str(run), "--sample", "x"]) == 2
    assert main(["report", str(tmp_path / "absent")]) == 2
    (tmp_path / "mine.html").write_text("mine")
    assert main(["report", str(run), "-o", str(tmp_path / "mine.html")]) == 2
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_report_of_a_run_of_another_bundle(tmp_path: Path, capsys: Capture) -> None:
    own = Bundle.open(write_bundle(tmp_path / "own.gsqc"))
    other = write_bundle(tmp_path / "other.gsqc", state=other_state())
    from gsqc.runtime.store import RunStore

    store = RunStore(tmp_path / "run", own)
    store.save_state(STATE, 1)
    store.append_log([entry(1)])
    assert main(["report", str(tmp_path / "run"), "--bundle", str(other)]) == 2
    assert "another bundle" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""Makes HTML from text and numbers. A stranger's text gets into a page only through `escape`.

Should something slip through, the page's content policy still forbids every script and request.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from gsqc.printable import printable

_MOST_TEXT = 4000


def escape(value: Any) -> str:
    """A value as text for HTML's content and attributes.

    Control characters are replaced, and a very long text is cut.
    """
    text = printable(str(value))
    return html.escape(text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} …", quote=True)


def tile(label: str, value: str, note: str = "") -> str:
    """A number in a box at the top of the page. Takes text, not HTML."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="tile"><span>{escape(label)}</span><b>{escape(value)}</b>{small}</div>'


def card(title: str, body: str, note: str = "", *, wide: bool = False) -> str:
    """A box with a heading. `body` is HTML, the rest is text."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    kind = "card wide" if wide else "card"
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{body}{below}</section>'


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = (), *, code: bool = False) -> str:
    """Rows of text whose first column is a heading. `code` sets the others as code."""
    first = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [f"<thead><tr>{first}</tr></thead>"] if head else []
    kind = ' class="code"' if code else ""
    for row in rows:
        cells = "".join(f"<td{kind}>{escape(c)}</td>" for c in row[1:])
        lines.append(f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars. Each row is a label, a value and the value's text."""
    most = max((value for _, value, _ in rows), default=0) or 1
    lines = [
        f'<div class="bar"><span>{escape(label)}</span>'
        f'<i><b style="width:{100 * value / most:.1f}%"></b></i><em>{escape(text)}</em></div>'
        for label, value, text in rows
    ]
    return f'<div class="bars">{"".join(lines)}</div>'


def page(title: str, subtitle: str, tiles: Sequence[str], cards: Sequence[str]) -> str:
    """The whole page. `tiles` and `cards` are HTML, the rest is text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f'<div class="tiles">{"".join(tiles)}</div><main>{"".join(cards)}</main>'
        "<footer>Made by gsqc report. Nothing in this page is loaded from elsewhere.</footer>"
        "</body></html>\n"
    )


_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""No script and no request, whatever text got into the page."""
_STYLE = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#17202e;--soft:#5d6878;--line:#dfe3ea;--grid:#e9ecf1;
--track:#edf0f4;
--s0:#1f6feb;--s1:#d4640f;--s2:#148a5b;--s3:#8a4fd0;--s4:#c72f5c;--s5:#0f8ea3;--s6:#8d6b13;
--s7:#64748b}
@media(prefers-color-scheme:dark){:root{--bg:#0e131b;--card:#171e29;--ink:#e8edf4;--soft:#98a4b5;
--line:#2a3444;
--grid:#232c3a;--track:#222b39;--s0:#5aa2ff;--s1:#ff9a4d;--s2:#3fcf93;--s3:#b98bff;--s4:#ff6f97;
--s5:#3fc6db;
--s6:#d9b24a;--s7:#94a3b8}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
header,main,.tiles,footer{max-width:1180px;margin:0 auto;padding:0 20px}
header{padding-top:32px}h1{font-size:27px;line-height:1.2;margin:0;letter-spacing:-.01em;
overflow-wrap:anywhere}
header p{margin:6px 0 20px;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(146px,1fr));gap:12px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:12px 16px}.tile span{display:block;color:var(--soft);font-size:13px}
.tile b{display:block;font-size:21px;font-weight:650;font-variant-numeric:tabular-nums;
line-height:1.3;
overflow-wrap:anywhere}
.tile small{color:var(--soft);font-size:12.5px}
main{display:flex;flex-wrap:wrap;gap:16px;margin-top:16px}
.card{padding:16px 18px;min-width:0;flex:1 1 46%}.wide{flex-basis:100%}.card>svg{max-width:620px}
h2{font-size:16px;margin:0 0 10px;font-weight:650}.note{margin:10px 0 0;color:var(--soft);
font-size:13px}
div.small{display:none}svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:12.5px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--grid)}.axis{stroke:var(--line)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 8px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px;
font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-top:1px solid var(--grid);vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:13px}
tr:first-child>*{border-top:0}
tbody th,tr>th[scope=row]{font-weight:500;color:var(--soft);white-space:nowrap}
.code{font:12.5px/1.6 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace;
overflow-wrap:anywhere}
.bars{display:grid;gap:7px}.bar{display:grid;grid-template-columns:minmax(96px,34%) 1fr auto;
gap:12px;
align-items:center;font-size:14px}.bar span{overflow-wrap:anywhere}.bar i{background:var(--track);
border-radius:4px;
height:12px;overflow:hidden}.bar b{display:block;height:100%;background:var(--s0);border-radius:4px}
.bar em{font-style:normal;color:var(--soft);font-size:13px;font-variant-numeric:tabular-nums;
min-width:88px;
text-align:right}
.sample{display:grid;grid-template-columns:1fr 1fr;gap:14px;margin-bottom:16px}
.sample h3{grid-column:1/-1;
font-size:14px;font-weight:600;margin:0;overflow-wrap:anywhere}.sample p{margin:0;padding:10px 14px;
background:var(--track);border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere}
.sample small{display:block;color:var(--soft);
font-size:12px;margin-bottom:4px}.sample p+p{box-shadow:inset 3px 0 var(--s2)}
details{margin-top:10px}summary{cursor:pointer;color:var(--soft);font-size:14px}
footer{color:var(--soft);font-size:13px;padding-top:20px;padding-bottom:32px}
@media(max-width:760px){.card{flex-basis:100%}header,main,.tiles,footer{padding-left:14px;
padding-right:14px}header{padding-top:20px}.tiles{grid-template-columns:1fr 1fr}
.tile b{font-size:19px}
.sample{grid-template-columns:1fr}div.large{display:none}div.small{display:block}
svg text{font-size:14px}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""

# SPDX-License-Identifier: Apache-2.0
"""Runs as pages: one HTML file each, without scripts and without anything from elsewhere.

run_files.py   what a run directory holds      measure.py   memory, time by op, exponents: from bundle and state
charts.py      numbers as SVG                  html.py      text as HTML: the one place where it is escaped
run_page.py    one run                         compare.py   several runs over one another
"""

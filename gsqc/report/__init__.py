# SPDX-License-Identifier: Apache-2.0
"""Runs as pages: one HTML file each, with no scripts and nothing loaded from elsewhere.

run_files.py   reads a run directory
measure.py     measures memory, time by op and exponents from the bundle and its state
charts.py      draws numbers as SVG
html.py        writes text as HTML, and is the one place that escapes it
run_page.py    makes the page of one run
compare.py     makes the page of several runs
"""

# SPDX-License-Identifier: Apache-2.0
"""python -m gsqc."""

from gsqc.cli.main import run

run()

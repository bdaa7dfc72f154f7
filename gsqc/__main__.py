# SPDX-License-Identifier: Apache-2.0
"""The command line, as `python -m gsqc`."""

from gsqc.cli.main import run

run()

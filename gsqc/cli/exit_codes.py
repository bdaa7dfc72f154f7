# SPDX-License-Identifier: Apache-2.0
"""The exit codes of the program `gsqc`, beside 0 for success, and the name of its output."""

from __future__ import annotations

import signal

OUTPUT_ERROR = 1
"""Standard output cannot be written, or a check fails."""
USER_ERROR = 2
FAULT = 70
"""A fault of gsqc itself, which a user should report."""
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE

STANDARD_OUTPUT = "standard output"
"""Stands for a path in the errors of that stream."""

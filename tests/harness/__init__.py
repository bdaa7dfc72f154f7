# SPDX-License-Identifier: Apache-2.0
"""Tests of gsqc/harness. Those of the harness itself need `pip install 'gsqc[lm-eval]'`."""

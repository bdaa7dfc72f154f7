# SPDX-License-Identifier: Apache-2.0
"""Tests of the interpreter of Ethos-U85 command streams."""

# SPDX-License-Identifier: Apache-2.0
"""Checks that targets compute the same bits, or finds the first operator that differs."""

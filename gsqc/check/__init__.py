# SPDX-License-Identifier: Apache-2.0
"""Checks that targets compute the same bits, and finds the first operator that does not."""

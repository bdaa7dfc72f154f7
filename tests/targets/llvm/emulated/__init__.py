# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of another kind of machine, run under its emulator."""

# SPDX-License-Identifier: Apache-2.0
"""Runs: the trainer, its options, what a run directory holds, and how a run is shown."""

# SPDX-License-Identifier: Apache-2.0
"""Training runs: the trainer, its options, its data for gsqc-step, and how a run is shown."""

# SPDX-License-Identifier: Apache-2.0
"""gsqc compiles a language model into a fine-tuning step made of integers only."""

__version__ = "0.1.0"

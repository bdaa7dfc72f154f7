# SPDX-License-Identifier: Apache-2.0
"""Tests that compile a model and step what came out."""

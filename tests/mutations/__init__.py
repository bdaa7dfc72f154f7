# SPDX-License-Identifier: Apache-2.0
"""Mutations of the tree that have to turn the tests red."""

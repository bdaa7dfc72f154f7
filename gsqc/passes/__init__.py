# SPDX-License-Identifier: Apache-2.0
"""Graph passes. A pass is one file with one function `verb_noun` from a step to a step.

`gsqc.compiler.pipeline` lists them in order. docs/add-a-pass.md shows how to write one.
"""

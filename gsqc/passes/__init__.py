# SPDX-License-Identifier: Apache-2.0
"""Graph passes: one file each, one public function `verb_noun`. `gsqc.compiler.pipeline` shows
their order.
"""

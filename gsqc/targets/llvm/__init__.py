# SPDX-License-Identifier: Apache-2.0
"""The LLVM target: recorded ops become one shared library, through TVM. Imported by the compiler
only.
"""

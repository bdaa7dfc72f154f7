# SPDX-License-Identifier: Apache-2.0
"""The ops. A file holds an op's integer function, its gradient and its test cases.

An op is registered when its file is imported. `gsqc.numerics.ops.all` imports all of them.
"""

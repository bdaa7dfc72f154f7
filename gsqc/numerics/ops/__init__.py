# SPDX-License-Identifier: Apache-2.0
"""The ops: one file each, its integer function, its gradient, its test cases. Importing the package
registers all.
"""

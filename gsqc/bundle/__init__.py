# SPDX-License-Identifier: Apache-2.0
"""The contract between compiler and runtime: the plan, the manifest, and the files of a bundle."""

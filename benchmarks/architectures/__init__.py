# SPDX-License-Identifier: Apache-2.0
"""Which architectures of transformers gsqc takes: tiny models of random weights, in stages."""

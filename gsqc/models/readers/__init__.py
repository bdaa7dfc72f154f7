# SPDX-License-Identifier: Apache-2.0
"""One reader per kind of model file: Hugging Face directories and GGUF."""

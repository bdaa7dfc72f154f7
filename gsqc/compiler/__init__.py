# SPDX-License-Identifier: Apache-2.0
"""From a model and options to a bundle: the pipeline of passes, the initial state, estimates."""

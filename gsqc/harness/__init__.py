# SPDX-License-Identifier: Apache-2.0
"""EleutherAI's lm-evaluation-harness on a bundle, and on what a run made of it.

scoring    log-likelihoods of continuations by a session. It knows nothing of the harness
model      GsqcLM, the class that the harness calls
tasks      which tasks are meant, and whether their data is here
evaluate   runs the harness on them

The package lm-eval is an extra: `pip install 'gsqc[lm-eval]'`.
"""

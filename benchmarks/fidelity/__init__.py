# SPDX-License-Identifier: Apache-2.0
"""Does a format train as well as float? Held-out loss of gsqc and of other formats after the same
steps.

formats.py   one function a number format: float32 values rounded to what the format can hold
recipes.py   which format each operand of a step has, for every peer
products.py  matrix products whose operands are rounded, forward and backward
torch_side.py   LoRA in torch with a recipe, on the captured model
gsqc_side.py    the same steps by gsqc
texts.py     the two texts
results.py   a file of results, a JSON line a run
report.py    the table and the plot of it
"""

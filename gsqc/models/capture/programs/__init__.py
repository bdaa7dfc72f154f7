# SPDX-License-Identifier: Apache-2.0
"""Capture of programs: from the graph of an .onnx or .pt2 file to a captured model.

capture.py     the way from a file to a captured model
tracer.py      torch's operators on shapes (shapes.py); what depends on constants alone is computed
               at once
onnx_graph.py  the nodes of an .onnx file as torch's operators, by onnx_rules.py, onnx_moves.py,
               onnx_fused.py and onnx_attention.py. onnx_values.py holds what they made
pt2_graph.py   those of a .pt2 file, by pt2_operators.py
refusals.py    what both kinds are refused for
regions.py     parts of a graph with one source, and what they compute
patterns.py    norms, activations and biases, told by what they compute. rewriter.py replaces them
rope.py        rotary embedding, told in the same way
attention.py   attention, in the forms in which exporters write it, with masks.py
roles.py       names of the parameters, by what they are used for
weights.py     the weights, as floats or in codes
check.py       the capture against a run of the file
"""

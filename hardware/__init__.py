# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulate units as RTL: how large are the number format's units, beside those of FP8?

group_formats.py   GSE and int8: codes, scales, and how real numbers become them
float_formats.py   FP8 and its like: codes as exact integers, rounding
unit.py            what all units share: ports, registers, widths
integer_units.py   a group's dot product, its factor, one alignment
float_parts.py     pieces of float units: fields, normalisation, addition
float_units.py     FP8 with a float32 sum, with one alignment a group, with an exact sum
rotation.py        the 32-point Hadamard rotation
designs.py         the units by name
streams.py         operands for tests and toggle counts
smollm2.py         real operands: rows of SmolLM2
simulation.py      a unit in Amaranth's simulator
synthesis.py       RTL to gates, by yosys
netlist.py         gates, simulated with their toggles
switching.py       toggles of a unit on its operands
table.py           one measured row a unit, and the table of them
__main__.py        make hardware
"""

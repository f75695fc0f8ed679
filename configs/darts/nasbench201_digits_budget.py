"""DARTS on the NAS-Bench-201 space, on digits, with the weights of one 3x3 convolution a cell.

Every network within the budget has one 3x3 convolution, and skip connections and poolings on
the other five edges: all have the same number of parameters, and differ in where they go.
"""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(
    architecture=dict(base_channels=4, num_cells=3),
    mutator=dict(ignore_choices=['none'], extensions=[dict(type='Budget', params=13950)]),
)

"""DARTS with operation-level early stopping on CIFAR-10 with the settings of the paper.

Jiang et al., NeurIPS 2023, section 5.1: those of DARTS, with a threshold of 0.4
over 20 steps.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(extensions=[dict(type='OperationFreezing', threshold=0.4, window=20)])
)

"""DARTS with operation-level early stopping (Jiang et al., NeurIPS 2023), on digits."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(extensions=[dict(type='OperationFreezing')]))

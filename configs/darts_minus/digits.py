"""DARTS- on the DARTS space, on digits."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(extensions=[dict(type='AuxiliarySkip')]))

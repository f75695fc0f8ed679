"""SNAS on digits: soft draws."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='SNASMutator', tau_max=1.0, tau_min=0.03))

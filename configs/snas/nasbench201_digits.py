"""SNAS on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='SNASMutator', tau_max=1.0, tau_min=0.03))

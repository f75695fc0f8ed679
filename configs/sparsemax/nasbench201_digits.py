"""Sparsemax on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='SparsemaxMutator', alpha=2.0))

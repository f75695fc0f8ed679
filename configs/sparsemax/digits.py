"""Sparsemax on digits: what weighs nothing is not run."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='SparsemaxMutator', alpha=2.0))

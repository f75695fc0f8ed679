"""A random network on digits, trained like those that are found: the baseline."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='RandomMutator', seed=0))

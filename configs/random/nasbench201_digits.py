"""A random network of NAS-Bench-201 on digits: the baseline."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='RandomMutator', seed=0))

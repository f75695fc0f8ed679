"""SDARTS with random perturbations on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(extensions=[dict(type='RandomPerturbation')]))

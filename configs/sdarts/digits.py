"""SDARTS with adversarial perturbations (Chen & Hsieh, ICML 2020), on digits."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(extensions=[dict(type='AdversarialPerturbation')]))

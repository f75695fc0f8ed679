"""ReinMax on digits: one path per step, and a gradient of second order."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='ReinMaxMutator', tau=1.0))
train_cfg = dict(max_epochs=40)

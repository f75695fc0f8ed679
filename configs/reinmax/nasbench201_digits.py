"""ReinMax on the NAS-Bench-201 space, on digits: a gradient of second order."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='ReinMaxMutator', tau=1.0))
train_cfg = dict(max_epochs=40)

"""GDAS on digits: one path per step."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1))
train_cfg = dict(max_epochs=40)

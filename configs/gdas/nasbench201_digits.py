"""GDAS on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1))
train_cfg = dict(max_epochs=40)

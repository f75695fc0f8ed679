"""GDAS on CIFAR-10 with the settings of the paper (Dong & Yang, CVPR 2019, section 4.2)."""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1))
train_cfg = dict(max_epochs=240)

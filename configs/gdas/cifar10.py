"""GDAS on CIFAR-10 with the settings of the paper (Dong & Yang, CVPR 2019, section 4.2)."""

_base_ = ['../_base_/darts_cifar10.py']

# On this space the authors lend no gradient to what was not drawn, and pools have no norm.
model = dict(
    architecture=dict(pool_norm=False),
    mutator=dict(type='GDASMutator', tau_max=10.0, tau_min=0.1, lend_unchosen=False),
)
train_cfg = dict(max_epochs=240)

"""ProxylessNAS on digits: two paths compare.

The weights are trained alone first, then there is an architecture step in every other one.
Adam without momentum and without weight decay, as the authors have it (Cai et al., ICLR
2019, and their code), at the larger learning rate of a short search.
"""

_base_ = ['../_base_/darts_digits.py']

model = dict(
    mutator=dict(type='ProxylessMutator', gates='two'),
    arch_start_epoch=10,
    arch_interval=2,
)
train_cfg = dict(max_epochs=40)
optim_wrapper = dict(mutator=dict(optimizer=dict(betas=(0.0, 0.999), weight_decay=0.0)))

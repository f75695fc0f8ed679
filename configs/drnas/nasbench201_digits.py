"""DrNAS on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='DrNASMutator', kl_weight=1e-3))
optim_wrapper = dict(mutator=dict(optimizer=dict(weight_decay=0)))

"""DrNAS on digits: weights from Dirichlet distributions, held back by their divergence."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='DrNASMutator', kl_weight=1e-3))
optim_wrapper = dict(mutator=dict(optimizer=dict(weight_decay=0)))

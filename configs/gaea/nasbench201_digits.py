"""GAEA on the NAS-Bench-201 space, on digits."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='GAEAMutator'))
optim_wrapper = dict(
    mutator=dict(
        optimizer=dict(_delete_=True, type='mmrazor_mutators.ExponentiatedGradient', lr=0.1),
    ),
)

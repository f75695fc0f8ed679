"""GAEA on digits: probabilities that take exponentiated steps."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='GAEAMutator'))
optim_wrapper = dict(
    mutator=dict(
        optimizer=dict(_delete_=True, type='mmrazor_mutators.ExponentiatedGradient', lr=0.1),
    ),
)

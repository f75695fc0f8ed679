"""GAEA DARTS on CIFAR-10 with the settings of the authors' code.

Li et al., ICLR 2021, section 4: bilevel and of first order, steps of 0.1 without
weight decay for the architecture, everything else as DARTS.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(type='GAEAMutator'))
optim_wrapper = dict(
    mutator=dict(
        optimizer=dict(_delete_=True, type='mmrazor_mutators.ExponentiatedGradient', lr=0.1),
    ),
)

"""DARTS with early stopping on CIFAR-10, as RobustDARTS was run.

Zela et al., ICLR 2020, section 5.1: second order, and eigenvalues after every
second epoch, as in the authors' scripts; on the whole DARTS space, and without
their cutout in the search.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    hypergradient='finite_difference',
    mutator=dict(
        extensions=[
            dict(
                type='HessianEarlyStopping',
                window=5,
                delta=4,
                factor=1.3,
                start_epoch=10,
                interval=2,
            )
        ]
    ),
)

"""DARTS-PT on CIFAR-10 with the settings of the paper.

Wang et al., ICLR 2021, section 4: the search of DARTS, and then five epochs of
tuning after each round, which decides a space of either kind of cell.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    # The authors' space lacks `none`.
    architecture=dict(
        candidates=[
            'max_pool_3x3',
            'avg_pool_3x3',
            'skip_connect',
            'sep_conv_3x3',
            'sep_conv_5x5',
            'dil_conv_3x3',
            'dil_conv_5x5',
        ]
    ),
    mutator=dict(
        extensions=[
            dict(
                type='PerturbationSelection',
                tune_epochs=5,
                groups=['normal*', 'reduce*'],
            )
        ]
    ),
)

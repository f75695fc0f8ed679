"""DARTS-PT (Wang et al., ICLR 2021) on digits."""

_base_ = ['../_base_/darts_digits.py']

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
                tune_epochs=1,
                groups=['normal*', 'reduce*'],
            )
        ]
    ),
)

"""P-DARTS on the NAS-Bench-201 space, on digits: two stages."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(
    mutator=dict(
        extensions=[
            dict(type='ProgressiveShrinking', keep={0.5: 3}),
            dict(type='SkipDropout', start={0: 0.0, 0.5: 0.4}),
            dict(type='SkipLimit', max_skips=2, prefix=''),
        ]
    )
)

"""P-DARTS on the DARTS space, on digits: three stages of four epochs."""

_base_ = ['../_base_/darts_digits.py']

model = dict(
    mutator=dict(
        extensions=[
            dict(type='ProgressiveShrinking', keep={4: 5, 8: 3}),
            dict(type='SkipDropout', start={0: 0.0, 4: 0.4, 8: 0.7}),
            dict(type='SkipLimit', max_skips=2),
        ]
    )
)

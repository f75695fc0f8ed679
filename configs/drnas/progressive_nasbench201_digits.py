"""DrNAS on the NAS-Bench-201 space, on digits, with 3 of 5 choices from half time on."""

_base_ = ['./nasbench201_digits.py']

model = dict(
    mutator=dict(extensions=[dict(type='ProgressiveShrinking', keep={0.5: 3})]),
)

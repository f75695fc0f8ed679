"""DrNAS on digits, with half of the choices from half time on."""

_base_ = ['./digits.py']

model = dict(
    mutator=dict(extensions=[dict(type='ProgressiveShrinking', keep={0.5: 4})]),
)

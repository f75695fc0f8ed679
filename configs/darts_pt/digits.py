"""DARTS-PT (Wang et al., ICLR 2021) on digits."""

_base_ = ['../_base_/darts_digits.py']

model = dict(
    mutator=dict(
        extensions=[dict(type='PerturbationSelection', tune_epochs=1, spaces_per_round=2)]
    )
)

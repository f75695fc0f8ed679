"""FairDARTS on digits; the step of the logits is large enough to reach the threshold."""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='FairDartsMutator', zero_one_weight=10.0))
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=5e-2)))

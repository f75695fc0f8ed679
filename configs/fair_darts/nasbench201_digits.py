"""FairDARTS on the NAS-Bench-201 space, on digits; every edge of the network keeps a choice."""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(mutator=dict(type='FairDartsMutator', zero_one_weight=10.0))
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=5e-2)))

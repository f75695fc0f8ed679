"""DARTS-PT on CIFAR-10 with the settings of the paper.

Wang et al., ICLR 2021, section 4: the search of DARTS, and then five epochs of
tuning after every two spaces that were decided.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(
        extensions=[dict(type='PerturbationSelection', tune_epochs=5, spaces_per_round=2)]
    )
)

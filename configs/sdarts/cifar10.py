"""SDARTS-ADV on CIFAR-10 with the settings of the paper.

Chen & Hsieh, ICML 2020, section 5.2: those of DARTS, with perturbations of up
to 0.03 at first that grow to 0.3.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(
        extensions=[
            dict(type='AdversarialPerturbation', epsilon_min=0.03, epsilon_max=0.3, steps=7)
        ]
    )
)

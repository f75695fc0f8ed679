"""DARTS- on CIFAR-10 as the authors search (Chu et al., ICLR 2021, section 4).

The settings are those of DARTS: 50 epochs, in which the factor of the auxiliary
skip connections falls from 1 to 0.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(extensions=[dict(type='AuxiliarySkip', start=1.0)]))

"""A random network of the DARTS space on CIFAR-10, retrained with the settings of DARTS.

Li & Talwalkar, UAI 2019, section 4, compare with networks like this one.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(type='RandomMutator', seed=0))

"""beta-DARTS on CIFAR-10 as the authors search (Ye et al., CVPR 2022, section 4.1).

On the DARTS space for 50 epochs, in which the weight grows to 25.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(extensions=[dict(type='BetaDecay', max_weight=25.0)]))

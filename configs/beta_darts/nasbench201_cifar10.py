"""beta-DARTS on NAS-Bench-201 as the authors search (Ye et al., CVPR 2022, section 4.1).

For 100 epochs, in which the weight grows to 50.
"""

_base_ = ['../_base_/nasbench201_cifar10.py']

model = dict(mutator=dict(extensions=[dict(type='BetaDecay', max_weight=50.0)]))
train_cfg = dict(max_epochs=100)

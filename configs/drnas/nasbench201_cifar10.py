"""DrNAS on NAS-Bench-201 with the settings of the authors' code for the plain variant.

Chen et al., ICLR 2021, section 4.2: 100 epochs, otherwise as in the benchmark; the
divergence in the place of weight decay.
"""

_base_ = ['../_base_/nasbench201_cifar10.py']

model = dict(mutator=dict(type='DrNASMutator', kl_weight=1e-3))
train_cfg = dict(max_epochs=100)
optim_wrapper = dict(mutator=dict(optimizer=dict(weight_decay=0)))

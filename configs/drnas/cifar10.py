"""DrNAS on CIFAR-10 with the optimizers of the paper (Chen et al., ICLR 2021, section 4.1).

Batches of 64, 50 epochs, SGD from 0.1 to 0, Adam with 6e-4 for the logits from
epoch 10 on, and the divergence in the place of weight decay.  Theirs is the
progressive variant, on partial channels of a network of 20 cells and 36
channels; this is the plain one, on the supernet of DARTS.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(type='DrNASMutator', kl_weight=1e-3),
    arch_start_epoch=10,
)
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.1)),
    mutator=dict(optimizer=dict(lr=6e-4, weight_decay=0)),
)
param_scheduler = dict(architecture=[dict(type='CosineAnnealingLR', eta_min=0.0)])

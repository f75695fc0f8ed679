"""SNAS on CIFAR-10 with the settings of the paper (Xie et al., ICLR 2019, section 3.1).

One level: weights and architecture are stepped together, on all training images.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(type='SNASMutator', tau_max=1.0, tau_min=0.03),
    single_level=True,
)
train_dataloader = dict(dataset=dict(split='train'))
train_cfg = dict(max_epochs=150, arch_dataloader=None)

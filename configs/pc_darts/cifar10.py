"""PC-DARTS on CIFAR-10 with the settings of the paper (Xu et al., ICLR 2020, section 4.2).

The learning rate of the weights falls from 0.1 to 0.001, as in the authors' code;
the paper says to 0.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(_delete_=True, type='PCDartsMutator', channel_proportion=4),
    arch_start_epoch=15,
)
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=50, arch_dataloader=dict(batch_size=256))
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.1)),
    mutator=dict(optimizer=dict(lr=6e-4)),
)

retrain = dict(custom_hooks=[dict(type='DropPathProbHook', max_prob=0.3)])

"""ProxylessNAS' search on the DARTS space and CIFAR-10 (Cai et al., ICLR 2019).

The authors' published search is on ImageNet, in a space of their own; taken over are the
optimizers, the batch size and the schedule of their code: 40 epochs of weights alone and 120
more with an architecture step in every fifth step.  Their second learning rate schedule for
the weights alone and their label smoothing are not.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(type='ProxylessMutator', gates='two'),
    arch_start_epoch=40,
    arch_interval=5,
)
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=160, arch_dataloader=dict(batch_size=256))
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.025, momentum=0.9, nesterov=True, weight_decay=4e-5)),
    mutator=dict(optimizer=dict(lr=1e-3, betas=(0.0, 0.999), weight_decay=0.0)),
)

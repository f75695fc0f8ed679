"""DSNAS' search on the DARTS space and CIFAR-10 (Hu et al., CVPR 2020).

The paper searches ImageNet, in a space of its own; taken over are the architecture's
optimizer, the 240 epochs and the single level on all training images.  The weights keep the
optimizer of DARTS, whose learning rate is close to the authors' 0.5 for 1024 images when
that is scaled to 64.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(mutator=dict(type='DSNASMutator', fix_threshold=0.3), single_level=True)
train_dataloader = dict(dataset=dict(split='train'))
train_cfg = dict(max_epochs=240, arch_dataloader=None)
optim_wrapper = dict(
    architecture=dict(optimizer=dict(weight_decay=4e-5)),
    mutator=dict(optimizer=dict(lr=1e-3, betas=(0.5, 0.999), weight_decay=0.0)),
)

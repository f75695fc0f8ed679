"""FBNet's search on the DARTS space and CIFAR-10 (Wu et al., CVPR 2019, section 4.1).

The paper searches a space of its own on 100 classes of ImageNet; taken over are its
optimizers, batch size, epochs and temperatures.  It trains weights on 80% of the images and
then the architecture on 20%, which is one architecture step for four of the weights; the
halves of the data stay those of DARTS.  There is no table of latencies here: give one as
`model.mutator.costs`.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    mutator=dict(type='FBNetMutator', tau_max=5.0, decay=0.956),
    arch_start_epoch=10,
    arch_interval=4,
)
train_dataloader = dict(batch_size=192)
train_cfg = dict(max_epochs=90, arch_dataloader=dict(batch_size=192))
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.1, momentum=0.9, weight_decay=1e-4)),
    mutator=dict(optimizer=dict(lr=1e-2, betas=(0.9, 0.999), weight_decay=5e-4)),
)

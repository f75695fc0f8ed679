"""DARTS, first order, on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/darts_fashion_mnist.py']

model = dict(
    architecture=dict(base_channels=6),
    # Before the weights are of use, pooling looks better than it is.
    arch_start_epoch=5,
)
train_dataloader = dict(batch_size=32, dataset=dict(images_per_class=150))
train_cfg = dict(
    max_epochs=12,
    arch_dataloader=dict(batch_size=32, dataset=dict(images_per_class=150)),
)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))
retrain = dict(train_cfg=dict(max_epochs=8))

"""DARTS, first order, on Fashion-MNIST, at a size for a CPU."""

_base_ = ['../_base_/fashion_mnist.py', '../_base_/search.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='DartsSupernet',
        in_channels=1,
        num_classes=10,
        base_channels=6,
        num_layers=3,
        num_nodes=3,
    ),
    mutator=dict(type='DartsMutator'),
    # Before the weights are of use, pooling looks better than it is.
    arch_start_epoch=5,
)
train_dataloader = dict(batch_size=32, dataset=dict(images_per_class=150))
train_cfg = dict(
    max_epochs=12,
    arch_dataloader=dict(batch_size=32, dataset=dict(images_per_class=150)),
)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))

# What differs when the network found is trained from scratch.
retrain = dict(
    model=dict(architecture=dict(affine=True), retraining=True),
    train_dataloader=dict(batch_size=64, dataset=dict(split='train', images_per_class=400)),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=8),
    optim_wrapper=dict(
        _delete_=True,
        optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)

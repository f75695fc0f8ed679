"""The NAS-Bench-201 space on Fashion-MNIST, at a size for a CPU."""

_base_ = ['./fashion_mnist.py', './search.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='NasBench201Supernet',
        in_channels=1,
        num_classes=10,
        base_channels=8,
        num_cells=1,
    ),
    mutator=dict(type='DartsMutator', ignore_choices=()),
)
train_dataloader = dict(dataset=dict(images_per_class=500))
train_cfg = dict(max_epochs=20, arch_dataloader=dict(dataset=dict(images_per_class=500)))
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=3e-3)))

# What differs when the network found is trained from scratch.
retrain = dict(
    model=dict(architecture=dict(affine=True), retraining=True),
    train_dataloader=dict(batch_size=64, dataset=dict(split='train', images_per_class=400)),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=10),
    optim_wrapper=dict(
        _delete_=True,
        optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)

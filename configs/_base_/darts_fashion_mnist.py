"""The DARTS space on Fashion-MNIST, at a size for a CPU."""

_base_ = ['./fashion_mnist.py', './search.py', './short_retraining.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='DartsSupernet',
        in_channels=1,
        num_classes=10,
        base_channels=8,
        num_layers=3,
        num_nodes=3,
    ),
    mutator=dict(type='DartsMutator'),
)
train_dataloader = dict(dataset=dict(images_per_class=500))
train_cfg = dict(max_epochs=20, arch_dataloader=dict(dataset=dict(images_per_class=500)))
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=3e-3)))

retrain = dict(
    train_dataloader=dict(dataset=dict(images_per_class=400)), train_cfg=dict(max_epochs=10)
)

"""The NAS-Bench-201 space on CIFAR-10 with the settings of the benchmark.

Dong & Yang, ICLR 2020, appendix; the network found is trained as in the benchmark.
"""

_base_ = ['./cifar10.py', './search.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='NasBench201Supernet',
        in_channels=3,
        num_classes=10,
        base_channels=16,
        num_cells=5,
    ),
    mutator=dict(type='DartsMutator', ignore_choices=()),
)
train_cfg = dict(max_epochs=50)

# What differs when the network found is trained from scratch.
retrain = dict(
    model=dict(architecture=dict(affine=True), retraining=True),
    train_dataloader=dict(batch_size=256, dataset=dict(split='train')),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=200),
    optim_wrapper=dict(
        _delete_=True,
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)

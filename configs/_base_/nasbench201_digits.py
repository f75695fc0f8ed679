"""The NAS-Bench-201 space on digits: a search and a retraining within minutes on a CPU."""

_base_ = ['./digits.py', './search.py']

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
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))

# What differs when the network found is trained from scratch.
retrain = dict(
    model=dict(architecture=dict(affine=True), retraining=True),
    train_dataloader=dict(batch_size=64, dataset=dict(split='train')),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=20),
    optim_wrapper=dict(
        _delete_=True,
        optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)

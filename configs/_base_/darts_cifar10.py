"""The DARTS space on CIFAR-10 with the settings of the DARTS paper.

Liu et al., ICLR 2019, section 3.1.
"""

_base_ = ['./cifar10.py', './search.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='DartsSupernet',
        in_channels=3,
        num_classes=10,
        base_channels=16,
        num_layers=8,
        num_nodes=4,
    ),
    mutator=dict(type='DartsMutator'),
)
train_cfg = dict(max_epochs=50)

# What differs when the network found is trained from scratch.
retrain = dict(
    model=dict(
        architecture=dict(
            base_channels=36, num_layers=20, affine=True, auxiliary=True, drop_path=True
        ),
        retraining=True,
    ),
    train_dataloader=dict(
        batch_size=96,
        dataset=dict(
            split='train',
            transform=[
                dict(type='RandomCrop', padding=4),
                dict(type='RandomHorizontalFlip'),
                dict(type='Normalize'),
                dict(type='Cutout', length=16),
            ],
        ),
    ),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=600),
    optim_wrapper=dict(
        _delete_=True,
        optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
    custom_hooks=[dict(type='DropPathProbHook', max_prob=0.2)],
)

"""How the networks of examples/ are searched and trained, on samples of examples/data.py."""

default_scope = 'mmrazor_mutators'
randomness = dict(seed=0)
custom_imports = dict(imports=['examples.models', 'examples.data'])
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='examples.data.Samples', source='digits', split='weights'),
)
train_cfg = dict(
    type='BilevelTrainLoop',
    max_epochs=20,
    arch_dataloader=dict(
        train_dataloader, dataset=dict(train_dataloader['dataset'], split='arch')
    ),
)
test_dataloader = dict(
    train_dataloader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(train_dataloader['dataset'], split='test'),
)
test_cfg = dict()
test_evaluator = dict(type='Accuracy')
optim_wrapper = dict(
    constructor='SeparateOptimWrapperConstructor',
    architecture=dict(optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01)),
    mutator=dict(optimizer=dict(type='Adam', lr=2e-2)),
)
param_scheduler = dict(architecture=[dict(type='CosineAnnealingLR')], mutator=[])
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
retrain = dict(
    model=dict(retraining=True),
    train_dataloader=dict(dataset=dict(split='train')),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=20),
    optim_wrapper=dict(_delete_=True, optimizer=dict(type='AdamW', lr=3e-3)),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)

"""A training of the network found, from scratch, at a size for a CPU."""

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

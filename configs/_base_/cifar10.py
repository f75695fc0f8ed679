"""CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes.

The batches, or the archive itself, are looked for in data/cifar-10 and data;
name another folder by `data_root`.

The search trains weights on one half of the training split and architecture
parameters on the other; the network found is trained on all of it and measured
on the test split.  Loading takes microseconds per image, so it needs no workers.
"""

# The directory of the files; None for the usual places.
data_root = None

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR10',
        split='weights',
        root=None,
        transform=[
            dict(type='RandomCrop', padding=4),
            dict(type='RandomHorizontalFlip'),
            dict(type='Normalize'),
        ],
    ),
)
train_cfg = dict(
    type='BilevelTrainLoop',
    # The other half of the images, loaded alike.
    arch_dataloader=dict(
        train_dataloader, dataset=dict(train_dataloader['dataset'], split='arch')
    ),
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='CIFAR10', split='test', root=None, transform=[dict(type='Normalize')]),
)
test_cfg = dict()
test_evaluator = dict(type='Accuracy')

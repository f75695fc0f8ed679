"""scikit-learn's digits: 1,797 grey images of 8x8 pixels in 10 classes.

The search trains weights on one half of the training split and architecture
parameters on the other; the network found is trained on all of it and measured
on the test split.  Loading takes microseconds per image, so it needs no workers.
"""

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='Digits',
        split='weights',
        transform=[
            dict(type='RandomCrop', padding=1),
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
    dataset=dict(type='Digits', split='test', transform=[dict(type='Normalize')]),
)
test_cfg = dict()
test_evaluator = dict(type='Accuracy')

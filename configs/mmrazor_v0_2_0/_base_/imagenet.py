"""ImageNet, the schedule and the runtime of MMRazor v0.2.0's SPOS configs, with its names.

Training images lie in a folder for each class, `data/imagenet/train/n01440764/...`; those of
the test in one folder, with the file `val.txt` of names and labels.
"""

img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', size=224),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', size=(256, -1)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
test_data = dict(
    type='ImageNet',
    data_prefix='data/imagenet/val',
    ann_file='data/imagenet/meta/val.txt',
    pipeline=test_pipeline,
)
data = dict(
    samples_per_gpu=128,
    workers_per_gpu=8,
    train=dict(type='ImageNet', data_prefix='data/imagenet/train', pipeline=train_pipeline),
    val=test_data,
    test=test_data,
)

optimizer = dict(
    type='SGD',
    lr=0.5,
    momentum=0.9,
    weight_decay=4e-5,
    paramwise_cfg=dict(bias_decay_mult=0.0, norm_decay_mult=0.0),
)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='poly', power=1.0, min_lr=0.0, by_epoch=False)
runner = dict(type='IterBasedRunner', max_iters=300000)

checkpoint_config = dict(interval=1)
log_config = dict(interval=100, hooks=[dict(type='TextLoggerHook')])
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]

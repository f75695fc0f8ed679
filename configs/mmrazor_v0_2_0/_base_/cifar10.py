"""CIFAR-10 and the runtime of MMRazor v0.2.0's DARTS configs, with its names."""

img_norm_cfg = dict(
    mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], to_rgb=False
)
train_pipeline = [
    dict(type='RandomCrop', size=32, padding=4),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
test_data = dict(
    type='CIFAR10', data_prefix='data/cifar10', pipeline=test_pipeline, test_mode=True
)
data = dict(
    samples_per_gpu=16,
    workers_per_gpu=2,
    train=dict(type='CIFAR10', data_prefix='data/cifar10', pipeline=train_pipeline),
    val=test_data,
    test=test_data,
)

checkpoint_config = dict(interval=1)
log_config = dict(interval=100, hooks=[dict(type='TextLoggerHook')])
dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None
resume_from = None
workflow = [('train', 1)]

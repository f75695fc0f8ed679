"""MMRazor v0.2.0's retraining of a DARTS network (batch 96, cutout, 600 epochs), in its form.

Train with `mmrazor-mutators retrain`, of `darts_paper.yaml` for instance.
"""

_base_ = ['./_base_/cifar10.py']

model = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(
        type='DartsBackbone',
        in_channels=3,
        base_channels=36,
        num_layers=20,
        num_nodes=4,
        stem_multiplier=3,
        auxliary=True,
        aux_channels=128,
        aux_out_channels=768,
        out_indices=(19,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='DartsSubnetClsHead',
        num_classes=10,
        in_channels=576,
        aux_in_channels=768,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        aux_loss=dict(type='CrossEntropyLoss', loss_weight=0.4),
        topk=(1, 5),
        cal_acc=True,
    ),
)
mutator = dict(
    type='DartsMutator',
    placeholder_mapping=dict(
        node=dict(
            type='DifferentiableOP',
            with_arch_param=False,
            choices=dict(
                zero=dict(type='DartsZero'),
                skip_connect=dict(type='DartsSkipConnect', use_drop_path=True),
                max_pool_3x3=dict(type='DartsPoolBN', pool_type='max', use_drop_path=True),
                avg_pool_3x3=dict(type='DartsPoolBN', pool_type='avg', use_drop_path=True),
                sep_conv_3x3=dict(type='DartsSepConv', kernel_size=3, use_drop_path=True),
                sep_conv_5x5=dict(type='DartsSepConv', kernel_size=5, use_drop_path=True),
                dil_conv_3x3=dict(type='DartsDilConv', kernel_size=3, use_drop_path=True),
                dil_conv_5x5=dict(type='DartsDilConv', kernel_size=5, use_drop_path=True),
            ),
        ),
        node_edge=dict(type='DifferentiableEdge', num_chosen=2, with_arch_param=False),
    ),
)
algorithm = dict(
    type='Darts',
    architecture=dict(type='MMClsArchitecture', model=model),
    mutator=mutator,
    retraining=True,
    unroll=False,
)

img_norm_cfg = dict(
    mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255], to_rgb=False
)
data = dict(
    samples_per_gpu=96,
    workers_per_gpu=8,
    train=dict(
        pipeline=[
            dict(type='RandomCrop', size=32, padding=4),
            dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Cutout', shape=16, pad_val=0, prob=1.0),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='ToTensor', keys=['gt_label']),
            dict(type='Collect', keys=['img', 'gt_label']),
        ]
    ),
)
optimizer = dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4)
optimizer_config = dict(grad_clip=dict(max_norm=5, norm_type=2))
lr_config = dict(policy='CosineAnnealing', min_lr=0)
runner = dict(type='EpochBasedRunner', max_epochs=600)
custom_hooks = [dict(type='DropPathProbHook', max_prob=0.2, interval=1, priority=70)]

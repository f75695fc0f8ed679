"""DARTS over the backbone of a detector of MMDetection 3.x (`pip install mmdet`).

RetinaNet (Lin et al., ICCV 2017) on COCO with the cells of DARTS at three scales.  Of
this file is checked that it is read, and that the backbone is searched with the maps and
channels that the neck expects; the detector itself and its data are not.
"""

default_scope = 'mmdet'
randomness = dict(seed=0)

norm_cfg = dict(type='BN', affine=False)
op = 'mmrazor_mutators.Darts'
model = dict(
    type='mmrazor_mutators.Darts',
    architecture=dict(
        type='mmdet.RetinaNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type='mmrazor_mutators.DartsBackbone',
            in_channels=3,
            base_channels=16,
            num_layers=8,
            num_nodes=4,
            out_indices=(1, 4, 7),
            norm_cfg=norm_cfg,
        ),
        neck=dict(
            type='FPN',
            in_channels=[64, 128, 256],
            out_channels=64,
            add_extra_convs='on_input',
            num_outs=5,
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=80,
            in_channels=64,
            stacked_convs=4,
            feat_channels=64,
            # The first map has the full size of the image.
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=[1, 2, 4, 8, 16],
            ),
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[1.0, 1.0, 1.0, 1.0],
            ),
            loss_cls=dict(
                type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
            ),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
        ),
    ),
    mutator=dict(
        type='mmrazor_mutators.DartsMutator',
        placeholder_mapping=dict(
            node=dict(
                type='mmrazor_mutators.DifferentiableOP',
                with_arch_param=True,
                choices=dict(
                    none=dict(type=op + 'Zero'),
                    max_pool_3x3=dict(type=op + 'PoolBN', pool_type='max', norm_cfg=norm_cfg),
                    skip_connect=dict(type=op + 'SkipConnect', norm_cfg=norm_cfg),
                    sep_conv_3x3=dict(type=op + 'SepConv', kernel_size=3, norm_cfg=norm_cfg),
                    dil_conv_3x3=dict(type=op + 'DilConv', kernel_size=3, norm_cfg=norm_cfg),
                ),
            ),
            node_edge=dict(
                type='mmrazor_mutators.DifferentiableEdge', num_chosen=2, with_arch_param=False
            ),
        ),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
dataset = dict(
    type='CocoDataset',
    data_root='data/coco/',
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=train_pipeline,
)
loader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
# The weights see some of the training images, the architecture others.
train_dataloader = dict(**loader, dataset=dict(**dataset, indices=[*range(0, 100000, 2)]))
train_cfg = dict(
    type='mmrazor_mutators.BilevelTrainLoop',
    max_epochs=12,
    arch_dataloader=dict(**loader, dataset=dict(**dataset, indices=[*range(1, 100000, 2)])),
)
optim_wrapper = dict(
    constructor='mmrazor_mutators.SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=5),
    ),
    mutator=dict(
        optimizer=dict(type='Adam', lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
    ),
)
param_scheduler = dict(
    architecture=[dict(type='CosineAnnealingLR', eta_min=1e-4)],
    mutator=[],
)

"""DARTS with a classifier, a data set and transforms of MMPretrain (`pip install mmpretrain`).

Settings of the DARTS paper (Liu et al., ICLR 2019, section 3.1).  MMPretrain brings
everything but the backbone, and computes the losses.  Checked with MMPretrain 1.2.0 are
search steps and predictions of this model, on made-up images; the data set and a whole
search are not.
"""

default_scope = 'mmpretrain'
randomness = dict(seed=0)

norm_cfg = dict(type='BN', affine=False)
op = 'mmrazor_mutators.Darts'
model = dict(
    type='mmrazor_mutators.Darts',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(
            type='ClsDataPreprocessor',
            num_classes=10,
            mean=[125.307, 122.961, 113.8575],
            std=[51.5865, 50.847, 51.255],
        ),
        backbone=dict(
            type='mmrazor_mutators.DartsBackbone',
            in_channels=3,
            base_channels=16,
            num_layers=8,
            num_nodes=4,
            norm_cfg=norm_cfg,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=10,
            in_channels=256,
            loss=dict(type='CrossEntropyLoss'),
            topk=(1, 5),
            cal_acc=True,
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
                    avg_pool_3x3=dict(type=op + 'PoolBN', pool_type='avg', norm_cfg=norm_cfg),
                    skip_connect=dict(type=op + 'SkipConnect', norm_cfg=norm_cfg),
                    sep_conv_3x3=dict(type=op + 'SepConv', kernel_size=3, norm_cfg=norm_cfg),
                    sep_conv_5x5=dict(type=op + 'SepConv', kernel_size=5, norm_cfg=norm_cfg),
                    dil_conv_3x3=dict(type=op + 'DilConv', kernel_size=3, norm_cfg=norm_cfg),
                    dil_conv_5x5=dict(type=op + 'DilConv', kernel_size=5, norm_cfg=norm_cfg),
                ),
            ),
            node_edge=dict(
                type='mmrazor_mutators.DifferentiableEdge', num_chosen=2, with_arch_param=False
            ),
        ),
    ),
)

pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
dataset = dict(type='CIFAR10', data_root='data/cifar10', split='train', pipeline=pipeline)
loader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
)
# The weights see one half of the training images, the architecture the other.
train_dataloader = dict(**loader, dataset=dict(**dataset, indices=[*range(25000)]))
train_cfg = dict(
    type='mmrazor_mutators.BilevelTrainLoop',
    max_epochs=50,
    arch_dataloader=dict(**loader, dataset=dict(**dataset, indices=[*range(25000, 50000)])),
)
optim_wrapper = dict(
    constructor='mmrazor_mutators.SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    mutator=dict(
        optimizer=dict(type='Adam', lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
    ),
)
param_scheduler = dict(
    architecture=[dict(type='CosineAnnealingLR', eta_min=1e-3)],
    mutator=[],
)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))

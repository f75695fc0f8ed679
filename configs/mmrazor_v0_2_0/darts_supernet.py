"""MMRazor v0.2.0's DARTS supernet (second order, batch 64, CIFAR-10), in its own form.

Search with `mmrazor-mutators search`; files of v0.2.0 itself work in the same way.
"""

_base_ = ['./_base_/cifar10.py']

norm_cfg = dict(type='BN', affine=False)
model = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(
        type='DartsBackbone',
        in_channels=3,
        base_channels=16,
        num_layers=8,
        num_nodes=4,
        stem_multiplier=3,
        out_indices=(7,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        cal_acc=True,
    ),
)
mutator = dict(
    type='DartsMutator',
    placeholder_mapping=dict(
        node=dict(
            type='DifferentiableOP',
            with_arch_param=True,
            choices=dict(
                zero=dict(type='DartsZero'),
                skip_connect=dict(type='DartsSkipConnect', norm_cfg=norm_cfg),
                max_pool_3x3=dict(type='DartsPoolBN', pool_type='max', norm_cfg=norm_cfg),
                avg_pool_3x3=dict(type='DartsPoolBN', pool_type='avg', norm_cfg=norm_cfg),
                sep_conv_3x3=dict(type='DartsSepConv', kernel_size=3, norm_cfg=norm_cfg),
                sep_conv_5x5=dict(type='DartsSepConv', kernel_size=5, norm_cfg=norm_cfg),
                dil_conv_3x3=dict(type='DartsDilConv', kernel_size=3, norm_cfg=norm_cfg),
                dil_conv_5x5=dict(type='DartsDilConv', kernel_size=5, norm_cfg=norm_cfg),
            ),
        ),
        node_edge=dict(type='DifferentiableEdge', num_chosen=2, with_arch_param=False),
    ),
)
algorithm = dict(
    type='Darts',
    architecture=dict(type='MMClsArchitecture', model=model),
    mutator=mutator,
    retraining=False,
    unroll=True,
)

data = dict(samples_per_gpu=64, workers_per_gpu=8, split=True)
optimizer = dict(
    architecture=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
    mutator=dict(type='Adam', lr=3e-4, weight_decay=1e-3),
)
optimizer_config = None
lr_config = dict(policy='CosineAnnealing', min_lr=1e-3, freeze_optimizers=['mutator'])
runner = dict(type='MultiLoaderEpochBasedRunner', max_epochs=50)
custom_hooks = [dict(type='SearchSubnetHook', interval=1, priority=70)]
find_unused_parameter = True
use_ddp_wrapper = True

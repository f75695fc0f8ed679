"""MMRazor v0.2.0's SPOS supernet of ProxylessNAS' MobileNet on ImageNet, in its own form.

`mmrazor-mutators search` trains the supernet and then searches its paths; to search those of
a supernet that is trained already take `spos_mobilenet_evolution.py`.
"""

_base_ = ['./_base_/imagenet.py']

norm_cfg = dict(type='BN')
block = dict(type='MBBlock', norm_cfg=norm_cfg, act_cfg=dict(type='ReLU6'))
model = dict(
    type='mmcls.ImageClassifier',
    backbone=dict(
        type='SearchableMobileNet',
        first_channels=40,
        last_channels=1728,
        widen_factor=1.0,
        norm_cfg=norm_cfg,
        arch_setting_type='proxyless_gpu',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1728,
        loss=dict(
            type='LabelSmoothLoss',
            num_classes=1000,
            label_smooth_val=0.1,
            mode='original',
            loss_weight=1.0,
        ),
        topk=(1, 5),
    ),
)
mutator = dict(
    type='OneShotMutator',
    placeholder_mapping=dict(
        searchable_blocks=dict(
            type='OneShotOP',
            choices=dict(
                mb_k3e3=dict(kernel_size=3, expand_ratio=3, **block),
                mb_k5e3=dict(kernel_size=5, expand_ratio=3, **block),
                mb_k7e3=dict(kernel_size=7, expand_ratio=3, **block),
                mb_k3e6=dict(kernel_size=3, expand_ratio=6, **block),
                mb_k5e6=dict(kernel_size=5, expand_ratio=6, **block),
                mb_k7e6=dict(kernel_size=7, expand_ratio=6, **block),
                identity=dict(type='Identity'),
            ),
        ),
        first_blocks=dict(
            type='OneShotOP',
            choices=dict(mb_k3e1=dict(kernel_size=3, expand_ratio=1, **block)),
        ),
    ),
)
algorithm = dict(
    type='SPOS',
    architecture=dict(type='MMClsArchitecture', model=model),
    mutator=mutator,
    distiller=None,
    retraining=False,
)

runner = dict(max_iters=150000)
evaluation = dict(interval=10000, metric='accuracy')
checkpoint_config = dict(interval=30000)
find_unused_parameters = True

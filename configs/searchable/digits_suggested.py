"""A MobileNetV2-like network on digits, with the choices that are recognised in it."""

_base_ = ['./digits_convnet.py']

block = dict(type='mmrazor_mutators.MBBlock', kernel_size=3, expand_ratio=3)
model = dict(
    architecture=dict(
        model=[
            dict(
                type='torch.nn.Conv2d', in_channels=1, out_channels=16, kernel_size=3, padding=1
            ),
            dict(type='torch.nn.BatchNorm2d', num_features=16),
            dict(block, in_channels=16, out_channels=16),
            dict(block, in_channels=16, out_channels=24, stride=2),
            dict(block, in_channels=24, out_channels=24),
            dict(type='torch.nn.AdaptiveAvgPool2d', output_size=1),
            dict(type='torch.nn.Flatten'),
            dict(type='torch.nn.Linear', in_features=24, out_features=10),
        ],
        rules='suggest',
    ),
)

"""A convolutional network on digits with a twentieth of its parameters: where to spend them.

Every layer may have from one to sixteen sixteenths of its channels, and kernels of 1, 3 or 5.
A network of the same size that is drawn at random has a bottleneck somewhere.
"""

_base_ = ['../_base_/digits.py', '../_base_/search.py', '../_base_/short_retraining.py']


def _layer(ins, outs, stride=1):
    return [
        dict(
            type='torch.nn.Conv2d',
            in_channels=ins,
            out_channels=outs,
            kernel_size=5,
            stride=stride,
            padding=2,
            bias=False,
        ),
        dict(type='torch.nn.BatchNorm2d', num_features=outs),
        dict(type='torch.nn.ReLU'),
    ]


model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=[
            *_layer(1, 16),
            *_layer(16, 32, stride=2),
            *_layer(32, 32),
            *_layer(32, 64, stride=2),
            *_layer(64, 64),
            dict(type='torch.nn.AdaptiveAvgPool2d', output_size=1),
            dict(type='torch.nn.Flatten'),
            dict(type='torch.nn.Linear', in_features=64, out_features=10),
        ],
        rules=[
            dict(match='Conv2d', width=[n / 16 for n in range(1, 17)]),
            dict(match='Conv2d', kernel_size=[1, 3, 5]),
        ],
        example_inputs=[1, 1, 8, 8],
    ),
    # One draw of all choices in each pass, so that small networks are trained as such.
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', params=0.02)]),
)
train_cfg = dict(max_epochs=30)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=2e-2)))
retrain = dict(model=dict(_delete_=True, retraining=True))

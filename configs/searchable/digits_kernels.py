"""Where large kernels pay: eight layers on digits, and weights for a few large ones.

Every layer has a kernel of 1, 3 or 5. The budget is a sixth of the weights, and half of the
layers see maps of 2x2, on which a large kernel is wasted.
"""

_base_ = ['../_base_/digits.py', '../_base_/search.py', '../_base_/short_retraining.py']


def _layers(ins, outs, number, stride):
    layers = []
    for index in range(number):
        layers += [
            dict(
                type='torch.nn.Conv2d',
                in_channels=outs if index else ins,
                out_channels=outs,
                kernel_size=5,
                stride=1 if index else stride,
                padding=2,
                bias=False,
            ),
            dict(type='torch.nn.BatchNorm2d', num_features=outs),
            dict(type='torch.nn.ReLU'),
        ]
    return layers


model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=[
            *_layers(1, 16, 2, 1),
            *_layers(16, 16, 2, 2),
            *_layers(16, 16, 4, 2),
            dict(type='torch.nn.AdaptiveAvgPool2d', output_size=1),
            dict(type='torch.nn.Flatten'),
            dict(type='torch.nn.Linear', in_features=16, out_features=10),
        ],
        rules=[dict(match='Conv2d', kernel_size=[1, 3, 5])],
        example_inputs=[1, 1, 8, 8],
    ),
    # One draw of all choices in each pass, so that small networks are trained as such.
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', params=0.16)]),
)
train_cfg = dict(max_epochs=20)
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.05)), mutator=dict(optimizer=dict(lr=2e-2))
)
retrain = dict(model=dict(_delete_=True, retraining=True))

"""A small convolutional network on digits: how wide, with which kernels and activations.

``rules`` say what may be chosen in ``model``; the network found is trained from scratch.
"""

_base_ = ['../_base_/digits.py', '../_base_/search.py', '../_base_/short_retraining.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=[
            dict(
                type='torch.nn.Conv2d', in_channels=1, out_channels=16, kernel_size=5, padding=2
            ),
            dict(type='torch.nn.BatchNorm2d', num_features=16),
            dict(type='torch.nn.ReLU'),
            dict(
                type='torch.nn.Conv2d',
                in_channels=16,
                out_channels=32,
                kernel_size=3,
                stride=2,
                padding=1,
            ),
            dict(type='torch.nn.BatchNorm2d', num_features=32),
            dict(type='torch.nn.ReLU'),
            dict(type='torch.nn.AdaptiveAvgPool2d', output_size=2),
            dict(type='torch.nn.Flatten'),
            dict(type='torch.nn.Linear', in_features=128, out_features=10),
        ],
        rules=[
            dict(match='Conv2d', width=[0.25, 0.5, 0.75, 1.0]),
            dict(match='0', kernel_size=[1, 3, 5]),
            dict(match='ReLU', activation=['relu', 'silu'], space='activation'),
        ],
        example_inputs=[1, 1, 8, 8],
    ),
    mutator=dict(type='DartsMutator'),
)
train_cfg = dict(max_epochs=12)
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=1e-2)))
retrain = dict(model=dict(_delete_=True, retraining=True))

"""A U-Net with a tenth of its parameters, in which concatenations tie widths together.

It finds the ink of digits under noise.
"""

_base_ = ['../_base_/examples.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=dict(type='examples.models.UNet'),
        rules=[
            dict(
                match=['down?.[03]', 'middle.[03]', 'join?.[03]', 'up?'],
                width=[0.125, 0.25, 0.5, 0.75, 1.0],
            ),
            dict(match=['down2.[03]', 'middle.[03]', 'join2.[03]'], kernel_size=[1, 3]),
        ],
        example_inputs=[1, 1, 8, 8],
    ),
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', params=0.1)]),
)
train_dataloader = dict(dataset=dict(source='noisy_digits'))
train_cfg = dict(arch_dataloader=dict(dataset=dict(source='noisy_digits')))
test_dataloader = dict(dataset=dict(source='noisy_digits'))

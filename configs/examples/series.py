"""A one-dimensional convolutional network with a tenth of its multiply-adds.

Digits are read as series, one pixel after another.
"""

_base_ = ['../_base_/examples.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=dict(type='examples.models.Series'),
        rules=[
            dict(match='Conv1d', width=[0.125, 0.25, 0.375, 0.5, 0.75, 1.0]),
            dict(match='Conv1d', kernel_size=[3, 5, 7, 9]),
        ],
        example_inputs=[1, 1, 64],
    ),
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', macs=0.1)]),
)
train_dataloader = dict(dataset=dict(source='scanned_digits'))
train_cfg = dict(arch_dataloader=dict(dataset=dict(source='scanned_digits')))
test_dataloader = dict(dataset=dict(source='scanned_digits'))

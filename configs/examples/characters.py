"""A transformer encoder with 30% of its multiply-adds: features, heads, hidden units.

It predicts the next character of Python's standard library. Blocks stay: in a search as short
as this one few blocks learn faster than many, which says little of what they would reach.
"""

_base_ = ['../_base_/examples.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=dict(type='examples.models.Characters'),
        rules=[
            dict(match='embed', width=[16, 24, 32, 40, 48, 56, 64]),
            dict(match='*.self_attn', heads=[1, 2, 3, 4]),
            dict(match='TransformerEncoderLayer', ffn=[0.0625, 0.125, 0.25, 0.5, 0.75, 1.0]),
        ],
        example_inputs=[dict(shape=[1, 64], below=97)],
    ),
    mutator=dict(
        type='DartsMutator',
        extensions=[
            dict(type='Budget', macs=0.3),
            # Decided at the end, so that the weights fit the network that is read off.
            dict(type='EntropyRegularizer', start=0.0, end=1.0),
        ],
    ),
)
train_dataloader = dict(dataset=dict(source='standard_library'))
train_cfg = dict(arch_dataloader=dict(dataset=dict(source='standard_library')))
test_dataloader = dict(dataset=dict(source='standard_library'))

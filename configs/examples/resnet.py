"""A ResNet with a fiftieth of its parameters: widths, kernels, and which blocks stay."""

_base_ = ['../_base_/examples.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=dict(type='examples.models.ResNet'),
        rules=[
            dict(match='layers.*.conv1', width=[0.125, 0.25, 0.375, 0.5, 0.75, 1.0]),
            # What a residual sum ties together is chosen once for each stage.
            dict(
                match=['conv1', 'layers.3.conv2', 'layers.5.conv2'],
                width=[0.125, 0.25, 0.5, 0.75, 1.0],
            ),
            dict(match='layers.*.conv?', kernel_size=[1, 3]),
            dict(match=['layers.1', 'layers.3', 'layers.5'], depth=True),
        ],
        example_inputs=[1, 1, 8, 8],
    ),
    # One draw of all choices in each pass, so that small networks are trained as such.
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', params=0.02)]),
)
# Enough steps for the choices: a budget comes down over the first half of them.
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=40, arch_dataloader=dict(batch_size=32))
retrain = dict(train_dataloader=dict(batch_size=64))

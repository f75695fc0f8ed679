"""A MobileNetV2-like network in 60% of its time: expansions, kernels, and which blocks stay.

The milliseconds are those of one's own device:
``mmrazor-mutators profile configs/examples/mobilenet.py --out work_dirs/latency.json``
"""

_base_ = ['../_base_/examples.py']

model = dict(
    type='Darts',
    architecture=dict(
        type='Searchable',
        model=dict(type='examples.models.MobileNet'),
        rules=[
            dict(match='InvertedResidual', expansion=[1, 2, 3, 4, 6]),
            dict(match='blocks.*.depthwise.0', kernel_size=[1, 3, 5]),
            dict(match=[f'blocks.{k}' for k in (1, 3, 4, 6, 7)], depth=True),
        ],
        example_inputs=[64, 1, 8, 8],
    ),
    mutator=dict(
        type='GDASMutator',
        extensions=[dict(type='Budget', latency_ms=0.6, profile='work_dirs/latency.json')],
    ),
)

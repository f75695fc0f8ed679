"""How the DARTS paper searches: SGD for the weights, Adam for the architecture."""

default_scope = 'mmrazor_mutators'
randomness = dict(seed=0)
optim_wrapper = dict(
    constructor='SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='SGD', lr=0.025, momentum=0.9, weight_decay=3e-4),
        clip_grad=dict(max_norm=5),
    ),
    mutator=dict(
        optimizer=dict(type='Adam', lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
    ),
)
# To the end of the run, however long it is.
param_scheduler = dict(
    architecture=[dict(type='CosineAnnealingLR', eta_min=1e-3)],
    mutator=[],
)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))

"""P-DARTS on CIFAR-10 with the settings of the paper (Chen et al., ICCV 2019, section 4.1).

Three stages of 25 epochs.  In contrast to the paper the supernet does not grow
from stage to stage (5, 11 and 17 cells there), its weights and architecture
parameters are trained on, and the architecture rests in the first ten epochs of
the first stage alone.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    arch_start_epoch=10,
    mutator=dict(
        extensions=[
            dict(type='ProgressiveShrinking', keep={25: 5, 50: 3}),
            dict(type='SkipDropout', start={0: 0.0, 25: 0.4, 50: 0.7}, decay=0.2, warmup=10),
            dict(type='SkipLimit', max_skips=2),
        ]
    ),
)
train_dataloader = dict(batch_size=96)
train_cfg = dict(max_epochs=75, arch_dataloader=dict(batch_size=96))
optim_wrapper = dict(mutator=dict(optimizer=dict(lr=6e-4)))
param_scheduler = dict(architecture=[dict(type='CosineAnnealingLR', eta_min=0.0)])

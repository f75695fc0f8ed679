"""SPOS on the NAS-Bench-201 space, on digits: a supernet, then an evolution over its paths.

One half of the training images trains the supernet, a path a step; the other
half scores the paths.  ``evolution`` of ``train_cfg`` may have constraints, as
``constraints=dict(flops=3e5)``, in multiply-adds of an image.
"""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(
    type='SPOS',
    mutator=dict(_delete_=True, type='OneShotMutator'),
    input_shape=(1, 8, 8),
)
# Paths are scored on whole images, in large batches.
train_cfg = dict(
    type='OneShotTrainLoop',
    max_epochs=100,
    arch_dataloader=dict(
        batch_size=256,
        sampler=dict(shuffle=False),
        dataset=dict(transform=[dict(type='Normalize')]),
    ),
    evolution=dict(candidate_pool_size=50, max_epoch=10, num_mutation=25, num_crossover=25),
    calibration_batches=4,
)
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=3e-4),
    clip_grad=dict(max_norm=5),
)
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR')

"""DSNAS on digits: one path, and one level.

Weights and architecture are stepped at once, on all training images.
"""

_base_ = ['../_base_/darts_digits.py']

model = dict(mutator=dict(type='DSNASMutator', fix_threshold=0.3), single_level=True)
train_dataloader = dict(dataset=dict(split='train'))
train_cfg = dict(max_epochs=40, arch_dataloader=None)
optim_wrapper = dict(mutator=dict(optimizer=dict(weight_decay=0.0)))

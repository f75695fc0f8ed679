"""docs/configuration.md: the entries of a config, as the schema checks them."""

from __future__ import annotations

from mmrazor_mutators.engine.schema import SECTIONS

from .entries import MEANINGS
from .options import table

HEAD = """# Configuration

A config is a Python file in the sense of mmengine, or YAML or JSON. It describes a search
and, in `retrain`, what differs when the network found is trained. This page has its entries,
[Parts](parts.md) the options of all that an entry can name by its `type`, and
[The command line](command_line.md) the commands that take a config. Written by
`python docs/generate.py` from the code.

## A whole config

Ready ones are in [configs](../configs/darts). This one searches cells on the digits of
scikit-learn, half of the images for the weights, the other half for the architecture:

```python
digits = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='Digits', split='weights', transform=[dict(type='Normalize')]),
)
model = dict(
    type='Darts',
    architecture=dict(
        type='NasBench201Supernet', in_channels=1, num_classes=10, base_channels=8, num_cells=1
    ),
    mutator=dict(type='GDASMutator', extensions=[dict(type='Budget', params=0.5)]),
)
train_dataloader = digits
train_cfg = dict(
    type='BilevelTrainLoop',
    max_epochs=20,
    arch_dataloader=dict(digits, dataset=dict(digits['dataset'], split='arch')),
)
optim_wrapper = dict(
    constructor='SeparateOptimWrapperConstructor',
    architecture=dict(
        optimizer=dict(type='SGD', lr=0.025, momentum=0.9), clip_grad=dict(max_norm=5)
    ),
    mutator=dict(optimizer=dict(type='Adam', lr=3e-3, betas=(0.5, 0.999))),
)
param_scheduler = dict(architecture=[dict(type='CosineAnnealingLR', eta_min=1e-3)], mutator=[])
test_dataloader = dict(
    digits,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(digits['dataset'], split='test'),
)
test_cfg = dict()
test_evaluator = dict(type='Accuracy')
randomness = dict(seed=0)
retrain = dict(
    model=dict(architecture=dict(affine=True), retraining=True),
    train_dataloader=dict(dataset=dict(split='train')),
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=20),
    optim_wrapper=dict(_delete_=True, optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
    param_scheduler=dict(_delete_=True, type='CosineAnnealingLR'),
)
```

- `_base_ = ['../_base_/digits.py']` merges the entries of this file into those of others.
- A dict with `_delete_=True` replaces what it would be merged into.
- `--cfg-options train_cfg.max_epochs=5 retrain.train_cfg.max_epochs=5` changes entries from
  the command line.
- `custom_imports = dict(imports=['my_package.parts'])` imports what registers parts of yours.
- A part of a host project is named with its scope, as `mmpretrain.ResNet`.
- `None` stands for an entry that is left out.

All entries are checked before anything is built. An error names the entry, what was expected
there, and what came; an unknown name of a part comes with the known ones.
"""

_TITLES = {
    '': (
        'Entries',
        'At the top of a config. `model` is needed always, and for a training `train_cfg`,\n'
        '`train_dataloader` and `optim_wrapper`; in `retrain` stand the same entries.',
    ),
    'model': (
        'In `model`',
        'Beside the options of the algorithm itself, see [Darts](parts.md#darts) and\n'
        '[SPOS](parts.md#spos).',
    ),
    'randomness': ('In `randomness`', ''),
    'default_hooks.checkpoint': (
        'In `default_hooks.checkpoint`',
        'Other names are refused there, since the hook would pass them on without a look.',
    ),
    '*': (
        'Wherever they stand',
        'These mean the same in every loader, loop, optimizer and hook, but not in data sets.',
    ),
}


def page() -> str:
    """Return the whole page.

    Raises:
        SystemExit: The schema has an entry that nobody describes, or the
            other way round.
    """
    parts = [HEAD.rstrip()]
    for section, checks in SECTIONS.items():
        meanings = MEANINGS[section]
        if {*meanings} != {*checks}:
            raise SystemExit(
                f'docs/pages/entries.py, section {section!r}: describes other entries than '
                f'engine/schema.py has: {sorted({*meanings} ^ {*checks})}'
            )
        title, text = _TITLES[section]
        rows = [(f'`{key}`', what, meanings[key]) for key, (_, what) in checks.items()]
        parts += [f'## {title}', *([text] if text else [])]
        parts.append('\n'.join(table(('entry', 'has to be', 'meaning'), rows)))
    return '\n\n'.join(parts) + '\n'

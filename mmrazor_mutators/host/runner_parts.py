"""Entries of a config that mmengine's runner reads."""

__all__ = ['RUNNER_PARTS']

RUNNER_PARTS = (
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'auto_scale_lr',
    'optim_wrapper',
    'param_scheduler',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'data_preprocessor',
    'load_from',
    'env_cfg',
    'log_processor',
    'visualizer',
    'randomness',
)
"""Entries of a config that are the runner's own arguments."""

"""FairDARTS on CIFAR-10 with the settings of its authors' code.

Chu et al., ECCV 2020, section 4: batches of 128, learning rate 0.005, Adam with
3e-3 for the logits, and the candidates of DARTS without `none`.  The retraining
is that of DARTS.
"""

_base_ = ['../_base_/darts_cifar10.py']

model = dict(
    architecture=dict(
        candidates=[
            'max_pool_3x3',
            'avg_pool_3x3',
            'skip_connect',
            'sep_conv_3x3',
            'sep_conv_5x5',
            'dil_conv_3x3',
            'dil_conv_5x5',
        ],
    ),
    mutator=dict(type='FairDartsMutator', zero_one_weight=10.0, threshold=0.85),
)
train_dataloader = dict(batch_size=128)
train_cfg = dict(arch_dataloader=dict(batch_size=128))
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.005)),
    mutator=dict(optimizer=dict(lr=3e-3, betas=(0.9, 0.999))),
)

"""FBNet on the NAS-Bench-201 space, on digits, with the number of parameters as the cost.

The costs are the parameters of each candidate, on average over the three cells.
"""

_base_ = ['../_base_/nasbench201_digits.py']

model = dict(
    mutator=dict(
        type='FBNetMutator',
        # 27 epochs here go from 5 to 0.1, as 90 of the paper do.
        decay=0.86,
        costs=dict(none=0, skip_connect=0, nor_conv_1x1=448, nor_conv_3x3=4032, avg_pool_3x3=0),
    ),
)
train_cfg = dict(max_epochs=27)

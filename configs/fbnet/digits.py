"""FBNet on digits: soft Gumbel draws, and a loss that knows the number of parameters.

The costs are the parameters of each candidate at its stride in this supernet, on average
over the cells that share its space.
"""

_base_ = ['../_base_/darts_digits.py']

model = dict(
    mutator=dict(
        type='FBNetMutator',
        # 27 epochs here go from 5 to 0.1, as 90 of the paper do.
        decay=0.86,
        costs={
            f'{kind}_n{node}_p{source}': dict(
                none=0,
                max_pool_3x3=0,
                avg_pool_3x3=0,
                # With stride 2 it is a pair of convolutions.
                skip_connect=640 if kind == 'reduce' and source < 2 else 0,
                **convolutions,
            )
            for kind, convolutions in dict(
                normal=dict(
                    sep_conv_3x3=272, sep_conv_5x5=528, dil_conv_3x3=136, dil_conv_5x5=264
                ),
                reduce=dict(
                    sep_conv_3x3=1712, sep_conv_5x5=2480, dil_conv_3x3=856, dil_conv_5x5=1240
                ),
            ).items()
            for node in (2, 3, 4)
            for source in range(node)
        },
    ),
)
train_cfg = dict(max_epochs=27)

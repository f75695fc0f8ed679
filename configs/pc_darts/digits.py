"""PC-DARTS on digits: Xu et al., ICLR 2020, section 3, at a size for a CPU.

Half of the channels are searched instead of the paper's quarter (K = 4), of which
a network with 8 channels would leave two.  As in section 4.2, the weights alone
are trained in the first 3 tenths of the epochs.
"""

_base_ = ['../_base_/darts_digits.py']

model = dict(
    mutator=dict(_delete_=True, type='PCDartsMutator', channel_proportion=2),
    arch_start_epoch=4,
)

"""DrNAS on CIFAR-10, progressive: 4 of 8 choices from epoch 25 of 50 on.

Chen et al., ICLR 2021, section 3.3, with the optimizers of cifar10.py.  What is
not theirs: the channels stay whole, where theirs grow from 1/6 to 1/4, and the
logits go on in the second half at once, where theirs rest for 10 epochs again.
"""

_base_ = ['./cifar10.py']

model = dict(
    mutator=dict(extensions=[dict(type='ProgressiveShrinking', keep={0.5: 4})]),
)

"""GDAS on the NAS-Bench-201 space, on Fashion-MNIST, at a size for a CPU.

One path at a time learns a part of the images by heart, and what has no weights wins; so it
gets all of them, four times.  The authors lend a gradient to what was not drawn: without it
the cells found are better here (docs/quality.md, where `none` never wins either).
"""

_base_ = ['../_base_/nasbench201_fashion_mnist.py']

model = dict(
    mutator=dict(type='GDASMutator', lend_unchosen=False, ignore_choices=['none']),
    arch_start_epoch=1,
)
optim_wrapper = dict(architecture=dict(optimizer=dict(lr=0.05)))
train_dataloader = dict(batch_size=32, dataset=dict(images_per_class=None))
train_cfg = dict(
    max_epochs=4, arch_dataloader=dict(batch_size=32, dataset=dict(images_per_class=None))
)

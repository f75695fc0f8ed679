"""ReinMax on the NAS-Bench-201 space and CIFAR-10 (Liu et al., NeurIPS 2023).

The paper puts its estimator in the place of GDAS' in this space, so these are the settings
of GDAS in the benchmark (Dong & Yang, ICLR 2020): 250 epochs, Nesterov momentum, weight
decay 5e-4 for the weights.  At tau=1 the estimator is of second order.
"""

_base_ = ['../_base_/nasbench201_cifar10.py']

model = dict(mutator=dict(type='ReinMaxMutator', tau=1.0))
train_cfg = dict(max_epochs=250)
optim_wrapper = dict(
    architecture=dict(optimizer=dict(lr=0.025, momentum=0.9, nesterov=True, weight_decay=5e-4)),
)

"""MMRazor v0.2.0's training of an SPOS network of MobileNet blocks from scratch.

Train with `mmrazor-mutators retrain`, of `spos_mobilenet_angelnas.yaml` for instance.
"""

_base_ = ['./spos_mobilenet_supernet.py']

algorithm = dict(retraining=True)
evaluation = dict(interval=10000, metric='accuracy')
checkpoint_config = dict(interval=30000)
runner = dict(max_iters=300000)
find_unused_parameters = False

"""MMRazor v0.2.0's training of an SPOS network of ShuffleNetV2 blocks from scratch.

Train with `mmrazor-mutators retrain`, of `spos_shufflenetv2_paper.yaml` for instance.
"""

_base_ = ['./spos_shufflenetv2_supernet.py']

algorithm = dict(retraining=True)
runner = dict(max_iters=300000)
find_unused_parameters = False

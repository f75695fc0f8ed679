"""MMRazor v0.2.0's search of the paths of its SPOS supernet of ShuffleNetV2 blocks.

`mmrazor-mutators search ... --cfg-options load_from=supernet.pth` runs the evolution alone, on
the weights of that checkpoint; without `load_from` the supernet is trained first.
"""

_base_ = ['./spos_shufflenetv2_supernet.py']

data = dict(samples_per_gpu=2048, workers_per_gpu=16)
algorithm = dict(bn_training_mode=True)
searcher = dict(
    type='EvolutionSearcher',
    candidate_pool_size=50,
    candidate_top_k=10,
    constraints=dict(flops=330 * 1e6),
    metrics='accuracy',
    score_key='accuracy_top-1',
    max_epoch=20,
    num_mutation=25,
    num_crossover=25,
    mutate_prob=0.1,
)

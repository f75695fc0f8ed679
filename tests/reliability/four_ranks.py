"""Four ranks forked from one process, which has imported all that they need: quick.

python four_ranks.py values FOLDER, or: python four_ranks.py VICTIM search CONFIG ...
"""

from __future__ import annotations

import datetime
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / 'search')]

RANKS = 4


def forked(job: Callable[[int], int]) -> list[int]:
    """Run a job in each rank; return how they ended: exit codes, or minus a signal."""
    sys.stdout.flush()
    processes = []
    for rank in range(RANKS):
        process = os.fork()
        if not process:
            code = 1
            try:
                code = job(rank)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        processes.append(process)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def values(rank: int, folder: str) -> int:
    """Take steps as one of four ranks, in one of which a gradient is not finite first."""
    from test_search_distributed import batches, outcome, small_search

    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/meeting',
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    pair = [tuple(tensor[rank::RANKS] for tensor in batch) for batch in batches()]
    found: dict[str, Any] = {}
    for name in ('first_order', 'exact'):
        search = small_search(hypergradient=name, grad_clip=0.1)
        for _ in range(2):
            search.step(*pair)
        found[name] = outcome(search)
    search = small_search(grad_clip=0.1, scaler={'init_scale': 8.0})
    right = search.loss_fn
    if rank == 2:
        # The value is right, and the gradient is NaN.
        search.loss_fn = lambda x, y: right(x, y) + 0 * (x - x.detach()).abs().sqrt().sum()
    found['skipped'] = [*search.step(*pair)], search.loss_scale.value, search.skips.in_a_row
    search.loss_fn = right
    search.step(*pair)
    found['scaled'] = outcome(search)
    torch.save(found, f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()
    return 0


def dying(rank: int, victim: int, port: int, words: list[str]) -> int:
    """Search as one of four ranks; one of them is killed after its fourth step."""
    from mmrazor_mutators import cli
    from mmrazor_mutators.engine.hooks import StopHook

    address = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank))
    after = StopHook.after_train_iter

    def hooked(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter == 3 and rank == victim:
            os.kill(os.getpid(), 9)
        after(self, runner, *args, **kwargs)

    StopHook.after_train_iter = hooked  # type: ignore[method-assign]
    return cli.main(words)


def main() -> None:
    """Print how the ranks ended."""
    torch.set_num_threads(1)
    if sys.argv[1] == 'values':
        import test_search_distributed  # noqa: F401

        ends = forked(lambda rank: values(rank, sys.argv[2]))
    else:
        import mmrazor_mutators.engine.jobs
        import mmrazor_mutators.views.describe  # noqa: F401

        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        ends = forked(lambda rank: dying(rank, int(sys.argv[1]), port, sys.argv[2:]))
    print('ends', *ends)


if __name__ == '__main__':
    main()

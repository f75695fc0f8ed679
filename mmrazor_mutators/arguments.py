"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .cli_compare import add_compare_verb
from .cli_costs import add_cost_verbs
from .version import __version__

__all__ = ['build_parser']

Verb = Callable[[argparse.Namespace], None]

_EPILOG = """\
A first search, on images that scikit-learn brings along:
  mmrazor-mutators search configs/darts/digits.py
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        line = f'error: {message} (see {self.prog} --help)'
        self.exit(2, ' '.join(line.split()) + '\n')


def build_parser(run: Mapping[str, Verb]) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        run: What runs each verb; it is given the arguments, which keep it as ``run``.
    """
    parser = _Parser(
        prog='mmrazor-mutators',
        description='Differentiable neural architecture search.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=__version__)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(name: str, summary: str) -> Any:
        sub = verbs.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=run[name])
        sub.add_argument('--traceback', action='store_true', help='show where an error arose')
        return sub

    def job(name: str, summary: str, count: str | None = None) -> Any:
        sub = verb(name, summary)
        sub.set_defaults(needs_runner=True)
        sub.add_argument(
            'config', nargs=count, help='a config file, such as configs/darts/digits.py'
        )
        sub.add_argument(
            '--cfg-options',
            nargs='+',
            default=[],
            metavar='K=V',
            help='entries to change, such as train_cfg.max_epochs=5; those of the section '
            'for retraining begin with "retrain."',
        )
        return sub

    def training(sub: Any) -> None:
        sub.add_argument('--work-dir', help='where to write; by default below work_dirs/')
        sub.add_argument(
            '--resume', action='store_true', help='go on from the latest checkpoint'
        )
        sub.add_argument(
            '--resume-changed',
            action='store_true',
            help='go on although space, mutator, optimizer, seed or batches differ from before',
        )
        sub.add_argument('--seed', type=int, help="instead of the config's")
        sub.add_argument(
            '--launcher', choices=('none', 'pytorch'), default='none', help='under torchrun'
        )

    sub = job('search', 'search an architecture, and write it as subnet.yaml')
    sub.add_argument(
        '--tensorboard', action='store_true', help='note each epoch for TensorBoard as well'
    )
    sub.add_argument(
        '--measure',
        type=_count,
        default=0,
        metavar='N',
        help='measure supernet and network read off in every N-th epoch',
    )
    training(sub)
    sub = job('retrain', 'train the network found from scratch, and test it')
    sub.add_argument('--subnet', required=True, metavar='FILE', help='written by search')
    sub.add_argument(
        '--compare-random',
        type=_count,
        default=0,
        metavar='N',
        help='train N random networks of the same space in the same way',
    )
    training(sub)
    sub = job('export', 'write the network found as a plain module')
    sub.add_argument('--subnet', required=True, metavar='FILE', help='written by search')
    sub.add_argument('--checkpoint', required=True, metavar='FILE', help='last.pth of a run')
    sub.add_argument(
        '--out',
        required=True,
        metavar='FILE',
        help='ends in .pt, .pt2 for torch.export, .onnx, or .py for source',
    )
    sub.add_argument('--input-shape', nargs=3, type=int, metavar=('C', 'H', 'W'))
    add_cost_verbs(job)
    add_compare_verb(job, _count)
    sub = verb('show', 'show how a search fares, a subnet, or what a retraining ended with')
    sub.add_argument(
        'file', help='a work directory of search, a subnet file, or the results.json of retrain'
    )
    sub.add_argument(
        '--out', metavar='FILE', help='a picture: .png, .svg or .pdf; or a folder for several'
    )
    sub.add_argument(
        '--config', help='of the search: shows all layers of the network, with what they cost'
    )
    sub.add_argument('--input-shape', nargs=3, type=int, metavar=('C', 'H', 'W'))
    sub = verb('report', 'write a work directory as one page of HTML')
    sub.set_defaults(needs_runner=True)
    sub.add_argument('work_dir', help='of search, retrain or front; also while it runs')
    sub.add_argument('--out', metavar='FILE', help='by default report.html in the directory')
    sub.add_argument(
        '--data-only',
        action='store_true',
        help='build nothing that its config names: no picture of layers, no multiply-adds',
    )
    sub = verb('list', 'list the parts that a config can name')
    sub.add_argument('kind', nargs='?', help='such as mutators; all kinds by default')
    sub.add_argument('pattern', nargs='?', help="such as 'Darts*'")
    sub = verb('migrate', 'rewrite a config or subnet of MMRazor 1.0 or v0.2.0')
    sub.set_defaults(needs_runner=True)
    sub.add_argument('file', help='a config of DARTS or DSNAS, or a YAML file with a subnet')
    sub.add_argument('--out', metavar='FILE', help='where to write; by default stdout')
    sub.add_argument('--base-dir', metavar='DIR', help="where 'mmrazor::...' bases are")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'expected 0 or more, but got {number}')
    return number

"""The command line: search, retrain, export, show, list, migrate."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .blame import one_line, place_of
from .errors import NASError
from .version import __version__

__all__ = ['main']

_EPILOG = """\
A first search, on images that scikit-learn brings along:
  mmrazor-mutators search configs/darts/digits.py
"""


def _search(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .engine.config import load_config
    from .engine.jobs import search
    from .views.describe import subnet_table

    cfg = load_config(args.config, args.cfg_options)
    _seed(cfg, args.seed)
    work_dir = _work_dir(args, cfg)
    console = Console()
    subnet = search(cfg, work_dir, resume=args.resume, launcher=args.launcher, console=console)
    if _rank() == 0:
        console.print(subnet_table(subnet))
        path = shlex.quote(str(work_dir / 'subnet.yaml'))
        config = shlex.quote(str(work_dir / 'config.py'))
        console.print(f'Found: {path}', soft_wrap=True, highlight=False, markup=False)
        _say(f'Train it:  mmrazor-mutators retrain {config} --subnet {path}')
        _say(f'Draw it:   mmrazor-mutators show {path} --out cells.png')


def _retrain(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .engine.config import load_config
    from .engine.jobs import retrain
    from .mutables import load_subnet
    from .views.report import results_table

    cfg = load_config(args.config, args.cfg_options)
    _seed(cfg, args.seed)
    subnet = load_subnet(args.subnet)
    work_dir = _work_dir(args, cfg, 'retrain')
    console = Console()
    results = retrain(
        cfg,
        subnet,
        work_dir,
        compare_random=args.compare_random,
        resume=args.resume,
        launcher=args.launcher,
        console=console,
    )
    if _rank() == 0:
        console.print(results_table(results))
        config, subnet_file = shlex.quote(args.config), shlex.quote(args.subnet)
        checkpoint = shlex.quote(str(work_dir / 'last.pth'))
        _say(
            f'Export it: mmrazor-mutators export {config} --subnet {subnet_file} '
            f'--checkpoint {checkpoint} --out found.pt'
        )


def _export(args: argparse.Namespace) -> None:
    from .engine.config import load_config
    from .engine.exporting import export
    from .engine.jobs import count_parameters
    from .mutables import load_subnet

    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out)
    net = export(cfg, load_subnet(args.subnet), Path(args.checkpoint), out, args.input_shape)
    size = out.stat().st_size / 2**20
    _say(f'Wrote {out}: {count_parameters(net):,} parameters, {size:.2f} MiB')


def _show(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .mutables import load_subnet
    from .views.describe import subnet_table

    if args.file.endswith('.json') and args.out is None:
        from .views.report import load_results, results_table

        Console().print(results_table(load_results(Path(args.file))))
        return
    subnet = load_subnet(args.file)
    if args.out is None:
        Console().print(subnet_table(subnet))
        return
    from .views.draw import draw_subnet

    draw_subnet(subnet, args.out)
    _say(f'Wrote {args.out}')


def _list(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .views.listing import list_parts

    console = Console()
    table = list_parts(args.kind, args.pattern)
    if not console.is_terminal:
        # Whoever reads a pipe gets whole lines.
        console.width = 1000
    console.print(table)


def _migrate(args: argparse.Namespace) -> None:
    from .migration.migrate import migrate, write_text

    text, notes = migrate(args.file, args.base_dir)
    if args.out is None:
        print(text, end='', flush=True)
    else:
        write_text(args.out, text)
        _say(f'Wrote {args.out}')
    for note in notes:
        _complain(f'note: {note}')


def _say(line: str) -> None:
    print(line, flush=True)


def _rank() -> int:
    return int(os.environ.get('RANK', '0'))


def _seed(cfg: Any, seed: int | None) -> None:
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def _work_dir(args: argparse.Namespace, cfg: Any, *parts: str) -> Path:
    if args.work_dir is not None:
        return Path(args.work_dir)
    if cfg.get('work_dir'):
        return Path(cfg.work_dir, *parts)
    config = Path(args.config)
    return Path('work_dirs', config.parent.name, config.stem, *parts)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _complain(f'error: {message} (see {self.prog} --help)')
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog='mmrazor-mutators',
        description='Differentiable neural architecture search.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=__version__)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> Any:
        sub = verbs.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=run)
        sub.add_argument('--traceback', action='store_true', help='show where an error arose')
        return sub

    def job(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> Any:
        sub = verb(name, run, summary)
        sub.set_defaults(needs_runner=True)
        sub.add_argument('config', help='a config file, such as configs/darts/digits.py')
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
        sub.add_argument('--seed', type=int, help="instead of the config's")
        sub.add_argument(
            '--launcher', choices=('none', 'pytorch'), default='none', help='under torchrun'
        )

    training(job('search', _search, 'search an architecture, and write it as subnet.yaml'))
    sub = job('retrain', _retrain, 'train the network found from scratch, and test it')
    sub.add_argument('--subnet', required=True, metavar='FILE', help='written by search')
    sub.add_argument(
        '--compare-random',
        type=_count,
        default=0,
        metavar='N',
        help='train N random networks of the same space in the same way',
    )
    training(sub)
    sub = job('export', _export, 'write the network found as a plain module')
    sub.add_argument('--subnet', required=True, metavar='FILE', help='written by search')
    sub.add_argument('--checkpoint', required=True, metavar='FILE', help='last.pth of a run')
    sub.add_argument(
        '--out', required=True, metavar='FILE', help='.pt, .pth, or .pt2 for torch.export'
    )
    sub.add_argument('--input-shape', nargs=3, type=int, metavar=('C', 'H', 'W'))
    sub = verb('show', _show, 'print or draw the cells of a subnet, or print results.json')
    sub.add_argument('file', help='a subnet file, or the results.json of retrain')
    sub.add_argument('--out', metavar='FILE', help='a picture: .png, .svg or .pdf')
    sub = verb('list', _list, 'list the parts that a config can name')
    sub.add_argument('kind', nargs='?', help='such as mutators; all kinds by default')
    sub.add_argument('pattern', nargs='?', help="such as 'Darts*'")
    sub = verb('migrate', _migrate, 'rewrite a config or subnet of MMRazor 1.0 or v0.2.0')
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 2 for what the user can mend, 1 for an error of the library, and 128 plus
        its number after a signal.
    """
    args = _parser().parse_args(arguments)
    try:
        if hasattr(args, 'needs_runner'):
            from .host import require_runner

            require_runner(f'`{args.verb}`')
        args.run(args)
    except NASError as error:
        if args.traceback:
            traceback.print_exc()
        in_worker = 'Original Traceback' in str(error)
        _complain(f'error: {one_line(error) if in_worker else error}')
        return 2
    except KeyboardInterrupt as error:
        words = [*(sys.argv[1:] if arguments is None else arguments)]
        # Before --cfg-options, which takes all that follows.
        if hasattr(args, 'resume') and not args.resume:
            words.insert(1, '--resume')
        what = str(error) or 'ended by SIGINT; what was written stays'
        if _rank() == 0:
            _complain(f'{what}. Go on with: {shlex.join(["mmrazor-mutators", *words])}')
        return 128 + int(getattr(error, 'number', 2))
    except Exception as error:
        if args.traceback:
            raise
        place = place_of(error)
        if place is not None:
            _complain(f'error: {one_line(error)} ({place}; --traceback shows all of it)')
            return 2
        with tempfile.NamedTemporaryFile(
            'w', prefix='mmrazor-mutators-', suffix='.log', delete=False, encoding='utf-8'
        ) as log:
            traceback.print_exc(file=log)
        _complain(
            f'error: {type(error).__name__}: {str(error) or "no message"} (this should not '
            f'happen; the traceback is in {log.name})'
        )
        return 1
    return 0


def _complain(message: str) -> None:
    print(' '.join(message.split()), file=sys.stderr, flush=True)


if __name__ == '__main__':
    sys.exit(main())

"""The command line: one function for each verb."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from .arguments import build_parser
from .blame import in_worker, of_loader, one_line, place_of
from .cli_compare import run_compare
from .cli_costs import run_front, run_profile
from .cli_jobs import rank, run_retrain, run_search, say, set_seed, work_dir_of
from .errors import NASError, RankLostError
from .interrupts import ending_at_once

__all__ = ['main']


def _export(args: argparse.Namespace) -> None:
    from .engine.config import load_config
    from .engine.exporting import export
    from .engine.jobs import count_parameters
    from .mutables import load_subnet
    from .shipping.formats import files_of

    cfg = load_config(args.config, args.cfg_options)
    out = Path(args.out)
    net = export(cfg, load_subnet(args.subnet), Path(args.checkpoint), out, args.input_shape)
    size = sum(file.stat().st_size for file in files_of(out)) / 2**20
    say(f'Wrote {out}: {count_parameters(net):,} parameters, {size:.2f} MiB')


def _front(args: argparse.Namespace) -> None:
    from .engine.config import load_config

    cfg = load_config(args.config, args.cfg_options)
    set_seed(cfg, args.seed)
    run_front(args, cfg, work_dir_of(args, cfg, 'front'))


def _show(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .mutables import load_subnet
    from .views.describe import subnet_table

    if os.path.isdir(args.file):
        from .cli_network import show_work_dir

        show_work_dir(args)
        return
    if args.file.endswith('.json') and args.out is None:
        from .views.report import load_results, results_table

        Console().print(results_table(load_results(Path(args.file))))
        return
    subnet = load_subnet(args.file)
    if args.config is not None:
        from .cli_network import show_network

        show_network(args, subnet)
        return
    if args.out is None:
        Console().print(subnet_table(subnet))
        return
    from .views.draw import draw_subnet

    draw_subnet(subnet, args.out)
    say(f'Wrote {args.out}')


def _report(args: argparse.Namespace) -> None:
    from .views.page import write_report

    say(f'Wrote {write_report(args.work_dir, args.out, build=not args.data_only)}')


def _list(args: argparse.Namespace) -> None:
    from rich.console import Console

    from .views.listing import list_parts

    console = Console()
    table = list_parts(args.kind, args.pattern)
    if console.is_terminal:
        console.print(table)
        return
    # Whoever reads a pipe gets a line for each part, whole and without padding.
    console.width = 1000
    with console.capture() as capture:
        console.print(table)
    for line in filter(str.strip, capture.get().splitlines()):
        say(line.rstrip())


def _migrate(args: argparse.Namespace) -> None:
    from .migration.migrate import migrate, write_text

    text, notes = migrate(args.file, args.base_dir)
    if args.out is None:
        print(text, end='', flush=True)
    else:
        write_text(args.out, text)
        say(f'Wrote {args.out}')
    for note in notes:
        _complain(f'note: {note}')


def _complain(message: str) -> None:
    print(' '.join(message.split()), file=sys.stderr, flush=True)


def _how_to_go_on(args: argparse.Namespace, words: list[str]) -> str:
    """Return how to repeat a command, or to resume it if there is something to resume."""
    folder = getattr(args, 'begun_in', None)
    if folder is None or not any(folder.rglob('*.pth')):
        return f'Start again with: {shlex.join(["mmrazor-mutators", *words])}'
    if not args.resume and not getattr(args, 'resume_changed', False):
        # Before --cfg-options, which takes all that follows.
        words = [words[0], '--resume', *words[1:]]
    again = shlex.join(['mmrazor-mutators', *words])
    return f'Go on with: {again}'


_VERBS = {
    'search': run_search,
    'retrain': run_retrain,
    'export': _export,
    'profile': run_profile,
    'front': _front,
    'compare': run_compare,
    'show': _show,
    'report': _report,
    'list': _list,
    'migrate': _migrate,
}


_MODULES = {
    'search': ('.engine.jobs', '.views.describe'),
    'retrain': ('.engine.jobs', '.views.report'),
    'export': ('.engine.exporting',),
    'profile': ('.engine.costing',),
    'front': ('.engine.costing', '.views.front'),
    'compare': ('.engine.comparing', '.views.comparison'),
    'show': ('.mutables',),
    'report': ('.engine.jobs', '.views.page'),
    'migrate': ('.migration.migrate',),
}
"""What takes seconds to import, for each verb."""


def _among_ranks() -> bool:
    """Whether there is a group of ranks by now; what has none need not import torch."""
    dist = sys.modules.get('torch.distributed')
    return dist is not None and dist.is_available() and dist.is_initialized()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0, or 2 for what the user can mend, 1 for an error of the library, and 128 plus
        its number after a signal.
    """
    args = build_parser(_VERBS).parse_args(arguments)
    joined = _among_ranks()
    try:
        with ending_at_once():
            if hasattr(args, 'needs_runner'):
                from .host import require_runner

                require_runner(f'`{args.verb}`')
            for module in _MODULES.get(args.verb, ()):
                importlib.import_module(module, __package__)
        args.run(args)
        if _among_ranks() and not joined:
            # Its threads would go on while Python comes down, and now and then abort a process
            # that is done; the launcher then takes the whole run for failed.
            sys.modules['torch.distributed'].destroy_process_group()
    except RankLostError as error:
        if not error.told:
            words = [*(sys.argv[1:] if arguments is None else arguments)]
            _complain(f'error: {error}. {_how_to_go_on(args, words)}')
        return 2
    except NASError as error:
        if args.traceback:
            traceback.print_exc()
        _complain(f'error: {one_line(error) if in_worker(error) else error}')
        return 2
    except KeyboardInterrupt as error:
        words = [*(sys.argv[1:] if arguments is None else arguments)]
        what = str(error) or 'ended by SIGINT; what was written stays'
        if rank() == 0:
            _complain(f'{what}. {_how_to_go_on(args, words)}')
        return 128 + int(getattr(error, 'number', 2))
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has had enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if args.traceback:
            raise
        place = place_of(error)
        if place is not None or of_loader(error):
            where = f'{place}; ' if place else 'while a batch was read; '
            _complain(f'error: {one_line(error)} ({where}--traceback shows all of it)')
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


if __name__ == '__main__':
    sys.exit(main())

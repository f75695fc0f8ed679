"""docs/command_line.md: the verbs of the command line, from its parser."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

from mmrazor_mutators.arguments import build_parser

from .options import table

HEAD = """# The command line

`mmrazor-mutators VERB`, or `python -m mmrazor_mutators VERB`. Written by
`python docs/generate.py` from the parser; `--help` after a verb says the same in a terminal.

A command ends with 0, or with 2 for what can be mended, which one line on stderr tells, 1
for an error of the library, and 128 plus its number after a signal. `--traceback` shows where
an error arose.
"""


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f'`{action.dest}`'
    metavar: Any = action.metavar or (action.dest.upper() if action.nargs != 0 else '')
    if action.choices and not action.metavar:
        metavar = '{' + ','.join(map(str, action.choices)) + '}'
    if isinstance(metavar, tuple):
        metavar = ' '.join(metavar)
    return f'`{" ".join([action.option_strings[-1], metavar]).strip()}`'


def _need(action: argparse.Action) -> str:
    if action.required:
        return 'required'
    shown = action.default not in (None, False, [], argparse.SUPPRESS)
    return f'`{action.default}`' if shown and action.nargs != 0 else ''


def page() -> str:
    """Return the whole page."""
    parser = build_parser(defaultdict(lambda: lambda args: None))
    (verbs,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    told = {action.dest: action.help or '' for action in verbs._choices_actions}
    parts = [HEAD.rstrip()]
    for verb, sub in verbs.choices.items():
        summary = told[verb][0].upper() + told[verb][1:]
        parts += [f'## {verb}', f'{summary}.']
        rows = [
            (_name(action), _need(action), action.help or '')
            for action in sub._actions
            if action.dest not in ('help', 'traceback')
        ]
        parts.append('\n'.join(table(('argument', 'default', 'meaning'), rows)))
    return '\n\n'.join(parts) + '\n'

"""The list that is read off the source is that of the registries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmrazor_mutators.views.catalogue import KINDS, read_parts
from mmrazor_mutators.views.listing import live_parts, plain

SCRIPT = """
import sys
from mmrazor_mutators import cli
status = cli.main(sys.argv[1:])
slow = {'torch', 'mmengine', 'mmcv', 'numpy', 'scipy', 'matplotlib', 'yaml'} & {*sys.modules}
print(status, sorted(slow), file=sys.stderr)
"""


@pytest.mark.parametrize('kind', KINDS)
def test_what_is_read_is_what_is_registered(kind: str) -> None:
    read, live = read_parts()[kind], live_parts()[kind]
    ours = {
        name: part
        for name, part in live.items()
        if not name.startswith('User')  # Registered by other tests.
    }
    assert set(ours) <= set(read)
    for name, part in read.items():
        assert plain(part.summary) == live[name].summary
        traits = {key: text for key, text in live[name].traits.items() if text}
        assert {key: text for key, text in part.traits.items() if text} == traits


@pytest.mark.parametrize('words', [['list'], ['list', 'mutators', 'D*']])
def test_a_list_needs_nothing_slow_and_comes_in_whole_lines(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, *words], capture_output=True, text=True, timeout=60
    )
    # Not one of the packages that take most of a second to import.
    assert done.stderr.split() == ['0', '[]']
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    # One line a part, below the head and its rule.
    parts = read_parts()
    count = sum(map(len, parts.values())) if len(words) == 1 else 0
    count = count or sum(name.startswith('D') for name in parts['mutators'])
    assert len(lines) == count + 2
    assert '…' not in done.stdout

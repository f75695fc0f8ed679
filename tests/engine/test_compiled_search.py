"""A search that is compiled, told so in a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import complaint, search


def test_a_config_compiles_and_the_cost_is_printed(tmp_path: Path, capsys: Any) -> None:
    options = {
        'model__compile': "{'backend': 'aot_eager'}",
        'model__architecture__num_cells': 1,
    }
    assert search(tmp_path, **options) == 0
    printed = capsys.readouterr().out
    # An architecture step, also of the first cell, and a step of the weights, for each width.
    assert 'compiled 7 graphs in ' in printed
    assert printed.count('compiled ') == 1
    log = next(tmp_path.glob('*/*.log')).read_text(encoding='utf-8')
    assert 'compiled 7 graphs in ' in log
    assert (tmp_path / 'subnet.yaml').is_file()


@pytest.mark.parametrize('value', ["'yes'", "{'fullgraph': False}"])
def test_an_option_that_is_none_is_one_line(tmp_path: Path, capsys: Any, value: str) -> None:
    assert search(tmp_path, model__compile=value) != 0
    assert 'Expected `compile` to be True, False or a mapping' in complaint(capsys)

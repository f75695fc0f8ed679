"""A user's file, outside of the checkout, under ``mypy --strict``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mypy')

SOURCE = """
import torch

import mmrazor_mutators as mm

supernet: torch.nn.Module = mm.build_architecture({'type': 'DartsSupernet'})
mutator = mm.build_mutator({'type': 'DartsMutator'}, mm.DartsMutator)
mutator.prepare_from_supernet(supernet)
logits: torch.Tensor = mutator.arch_params['a']
reveal_type(mm.build_mutator({'type': 'DartsMutator'}))
reveal_type(mutator)
reveal_type(mm.build_extension({'type': 'BetaDecay'}))
search = mm.BilevelSearch(
    supernet,
    mutator,
    torch.nn.functional.cross_entropy,
    torch.optim.SGD(supernet.parameters(), 0.1),
    torch.optim.Adam(mutator.arch_params.values(), 0.1),
    autocast='float8',
)
"""


@pytest.mark.slow
def test_a_file_of_a_user_is_checked(tmp_path: Path) -> None:
    path = tmp_path / 'mine.py'
    path.write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, '-m', 'mypy', '--strict', '--cache-dir', str(tmp_path), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != 'PYTHONPATH'},
    )
    said = done.stdout
    assert 'Revealed type is "mmrazor_mutators.mutators.base.BaseMutator"' in said
    assert 'Revealed type is "mmrazor_mutators.mutators.darts.DartsMutator"' in said
    assert 'Revealed type is "mmrazor_mutators.mutators.extension.Extension"' in said
    errors = [line for line in said.splitlines() if ' error: ' in line]
    assert len(errors) == 1, said
    assert '"autocast"' in errors[0]
    assert "Literal['bfloat16']" in errors[0]

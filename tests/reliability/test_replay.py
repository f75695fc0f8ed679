"""A run goes on from the state of its directory after every single file operation."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from runs import arguments, assert_same, result_of

from mmrazor_mutators import cli


class Recorder:
    """Copies a folder after each operation on files in it, where that has changed it."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder, copies
        self.states: list[tuple[str, Path]] = []
        self._last: Any = None
        self._busy = False

    def after(self, what: str, path: Any) -> None:
        """Note the state, and what has led to it."""
        if self._busy or not self.folder.exists():
            return
        if isinstance(path, int) or not str(path).startswith(str(self.folder)):
            return
        self._busy = True
        try:
            state = {
                str(p.relative_to(self.folder)): p.read_bytes()
                for p in sorted(self.folder.rglob('*'))
                if p.is_file() and p.suffix != '.log' and p.parent.name != 'vis_data'
            }
            if state != self._last:
                self._last = state
                copy = self.copies / f'{len(self.states):03}' / self.folder.name
                shutil.copytree(self.folder, copy, copy_function=shutil.copy2)
                self.states.append((f'{what} {Path(path).name}', copy))
        finally:
            self._busy = False


class _Recorded:
    """A file, after each write of which the state is noted."""

    def __init__(self, file: Any, recorder: Recorder, path: Any) -> None:
        self._file, self._recorder, self._path = file, recorder, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *args: Any) -> Any:
        result = self._file.__exit__(*args)
        self._recorder.after('close', self._path)
        return result

    def write(self, data: Any) -> Any:
        # What is killed within a write has written a part of it.
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._recorder.after('half of write', self._path)
        self._file.write(data[half:])
        self._file.flush()
        self._recorder.after('write', self._path)
        return len(data)


@contextmanager
def recorded(recorder: Recorder, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Note the state after each operation inside of the block."""
    with patch.context() as context:
        for name in ('replace', 'rename', 'link'):
            context.setattr(os, name, _noting(getattr(os, name), name, recorder, 1))
        for name in ('unlink', 'remove', 'mkdir'):
            context.setattr(os, name, _noting(getattr(os, name), name, recorder, 0))
        opened = io.open

        def recording_open(file: Any, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
            stream = opened(file, mode, *args, **kwargs)
            inside = str(file).startswith(str(recorder.folder))
            if not inside or not set(mode) & set('wax+') or str(file).endswith('.log'):
                return stream
            recorder.after('open', file)
            return _Recorded(stream, recorder, file)

        context.setattr(io, 'open', recording_open)
        context.setattr('builtins.open', recording_open)
        yield


def _noting(original: Any, name: str, recorder: Recorder, place: int) -> Any:
    def operation(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        recorder.after(name, args[place])
        return result

    return operation


def run(words: list[str]) -> tuple[int, str]:
    with redirect_stdout(io.StringIO()) as out:
        code = cli.main(words)
    return code, out.getvalue()


def replay(kind: str, every: int, tmp_path: Path, patch: pytest.MonkeyPatch) -> int:
    """Go on from every n-th state; return how many there were."""
    whole = tmp_path / 'whole' / 'run'
    whole.parent.mkdir()
    recorder = Recorder(whole, tmp_path / 'copies')
    with recorded(recorder, patch):
        assert run(arguments(kind, whole))[0] == 0
    expected = result_of(whole)
    done = 0
    for number, (what, copy) in enumerate(recorder.states):
        names = [path.name for path in copy.iterdir()]
        if number % every:
            continue
        checkpoints = [n for n in names if n.endswith('.pth') and not n.startswith('.')]
        resume = ['--resume'] if (copy / 'config.py').exists() else []
        code, out = run(arguments(kind, copy, *resume))
        assert code == 0, (number, what)
        assert ('goes on from' in out) == bool(checkpoints), (number, what, out)
        assert_same(result_of(copy), expected, what)
        shutil.rmtree(copy.parent)
        done += 1
    return done


@pytest.mark.parametrize('kind', ['darts', pytest.param('spos', marks=pytest.mark.slow)])
def test_some_states(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replay(kind, 11, tmp_path, monkeypatch) > 4


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['darts', 'darts by step', 'gdas', 'oles', 'spos', 'retrain'])
def test_every_state(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replay(kind, 1, tmp_path, monkeypatch) > 30

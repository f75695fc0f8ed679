"""Python processes for tests, forked from one that has imported the library already.

What ``python`` takes seconds for, these do in milliseconds. How the program itself starts is
tested elsewhere (tests/test_program.py, tests/test_cli.py).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

METHOD = 'forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn'
"""For ``torch.multiprocessing`` too."""

_context: Any = multiprocessing.get_context(METHOD)
if METHOD == 'forkserver':
    # What a run imports on its way; torch._dynamo, for optimizers, takes as long as torch.
    _context.set_forkserver_preload(
        ['pytest', 'torch._dynamo', 'torch.distributed.run', 'mmrazor_mutators.engine.jobs']
        + ['matplotlib.pyplot', 'mmrazor_mutators.extensions', 'sklearn.datasets']
    )


def _enter(words: list[str], output: list[str], options: dict[str, Any]) -> None:
    """Become what ``python *words`` is."""
    for number, path in enumerate(output, start=1):
        with open(path, 'wb') as file:
            os.dup2(file.fileno(), number)
    if options['new_session']:
        os.setsid()
    os.environ.clear()
    os.environ.update(options['env'])
    os.chdir(options['cwd'])
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # As it is in a Python of its own.
    kind, *rest = words
    sys.path.insert(0, str(Path(kind).parent if kind[0] != '-' else ''))
    if kind == '-m':
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    elif kind == '-c':
        sys.argv = ['-c', *rest[1:]]
        exec(compile(rest[0], '<string>', 'exec'), {'__name__': '__main__'})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name='__main__')


class Process:
    """A process that runs, with what ``subprocess.Popen`` offers."""

    def __init__(
        self,
        words: list[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | str = '.',
        start_new_session: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._output = [f'{self._folder.name}/{name}' for name in ('out', 'err')]
        self._text: tuple[str, str] | None = None
        options = {
            'env': dict(os.environ if env is None else env),
            'cwd': str(Path(cwd).absolute()),
            'new_session': start_new_session,
        }
        self._process = _context.Process(target=_enter, args=(words, self._output, options))
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it has ended with, or None."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return what it has ended with, or None."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for its end, and return what it has written."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        if self._text is None:
            out, err = (Path(path).read_text(encoding='utf-8') for path in self._output)
            self._text = out, err
            self._folder.cleanup()
        return self._text


def python(
    *words: str, env: Mapping[str, str] | None = None, cwd: Path | str = '.'
) -> subprocess.CompletedProcess[str]:
    """Run a Python to its end: ``-m module``, ``-c code`` or a file, and arguments."""
    return _completed(Process([*words], env, cwd))


def ranks(
    world_size: int,
    *words: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | str = '.',
) -> list[subprocess.CompletedProcess[str]]:
    """Run a Python several times at once, with the variables that torchrun sets."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    common = {
        **(os.environ if env is None else env),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
        'WORLD_SIZE': str(world_size),
        'LOCAL_WORLD_SIZE': str(world_size),
        'TORCHELASTIC_RUN_ID': 'none',
        'GLOO_SOCKET_IFNAME': 'lo',
    }
    started = [
        Process([*words], {**common, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}, cwd)
        for rank in range(world_size)
    ]
    return [_completed(process) for process in started]


def _completed(process: Process) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate()
    finally:
        process.kill()
    code = process.returncode
    assert code is not None
    return subprocess.CompletedProcess([], code, out, err)


def spawn(function: Callable[..., Any], arguments: tuple[Any, ...], world_size: int) -> None:
    """Call ``function(rank, *arguments)`` in processes of their own."""
    torch.multiprocessing.start_processes(
        function, arguments, nprocs=world_size, start_method=METHOD
    )

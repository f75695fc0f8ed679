"""Install the package: what it is and needs stands in ``pyproject.toml``.

The version is read as text, so that building needs none of the dependencies.  The kernels
in ``csrc/`` are optional: where they cannot be compiled, the package works without them.
"""

import re
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

ROOT = Path(__file__).resolve().parent
VERSION_FILE = ROOT / 'mmrazor_mutators' / 'version.py'

KERNELS = Extension(
    'mmrazor_mutators.kernels._native',
    sources=['csrc/kernels.c'],
    depends=sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'csrc').glob('*.h')),
    optional=True,
)


class BuildKernels(build_ext):
    """Compile the kernels, with threads where the compiler has them."""

    def build_extension(self, ext):
        """Compile one extension."""
        if self.compiler.compiler_type == 'msvc':
            raise CompileError('the kernels need the vector types of GCC or Clang')
        ext.extra_compile_args = [
            '-O3',
            '-g0',
            '-std=gnu11',
            '-ffp-contract=fast',
            '-fno-math-errno',
            '-fvisibility=hidden',
        ]
        ext.extra_link_args = ['-lm', '-pthread']
        if self.has_openmp():
            ext.extra_compile_args.append('-fopenmp')
            ext.extra_link_args.append('-fopenmp')
        super().build_extension(ext)

    def has_openmp(self):
        """Whether a file with threads can be compiled and linked."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / 'threads.c'
            source.write_text(
                '#include <omp.h>\nint n(void) { return omp_get_num_threads(); }\n'
            )
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=['-fopenmp']
                )
                self.compiler.link_shared_object(
                    objects, str(Path(folder) / 'threads.so'), extra_postargs=['-fopenmp']
                )
            except (CompileError, LinkError):
                return False
        return True


def read_version() -> str:
    """Return the version that ``version.py`` states."""
    match = re.search(
        r"^__version__ = '([^']+)'$", VERSION_FILE.read_text(encoding='utf-8'), re.MULTILINE
    )
    if match is None:
        raise RuntimeError(f"Expected a line __version__ = '...' in {VERSION_FILE}")
    return match.group(1)


setup(version=read_version(), cmdclass={'build_ext': BuildKernels}, ext_modules=[KERNELS])

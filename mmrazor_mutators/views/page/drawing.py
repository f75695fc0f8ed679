"""Draws the pictures of a page, and notes which cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from ...blame import reason_of
from ...errors import HostError, NASError
from .inline import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['Drawing', 'Picture']


class Picture(NamedTuple):
    """A picture in a page.

    Attributes:
        svg: The picture.
        caption: Below it.
    """

    svg: Markup
    caption: str


class Drawing:
    """Draws pictures.

    Args:
        missing: Is told what could not be drawn.
    """

    def __init__(self, missing: list[str]) -> None:
        self.missing, self._count, self._can = missing, 0, True

    @contextmanager
    def telling(self, label: str) -> Iterator[None]:
        """Note what goes wrong within, instead of writing no page at all."""
        try:
            yield
        except HostError as error:
            if self._can:
                self.missing.append(f'There are no pictures: {error}')
            self._can = False
        except NASError as error:
            self.missing.append(f'{label} cannot be shown: {error}')
        except Exception as error:  # What is shown of a file meets whatever stands in it.
            self.missing.append(f'{label} cannot be shown: {reason_of(error)}')

    def __call__(
        self, label: str, caption: str, draw: Callable[..., Figure], *arguments: Any
    ) -> list[Picture]:
        """Return one picture, or none where it cannot be drawn."""
        pictures = []
        with self.telling(label):
            self._count += 1
            figure = draw(*arguments)
            pictures.append(Picture(inline_svg(figure, label, f'p{self._count}-'), caption))
        return pictures

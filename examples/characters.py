"""A transformer encoder of characters, with 30% of its multiply-adds.

python -m examples.characters --seeds 3
"""

from __future__ import annotations

from .comparing import Task, main
from .data import standard_library
from .models import Characters

if __name__ == '__main__':
    epochs = dict(search_epochs=8, tune_epochs=8)
    main(Task('characters', Characters, standard_library(), **epochs), __doc__)

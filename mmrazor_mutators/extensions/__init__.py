"""What a mutator can be combined with; one method a file."""

__all__: list[str] = []

"""The same search in four loops; each saves after an epoch and goes on from there."""

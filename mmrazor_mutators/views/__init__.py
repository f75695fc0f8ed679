"""Pictures, tables and lists: they look at results and change nothing."""

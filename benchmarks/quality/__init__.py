"""Are networks that are found really better?  One driver, one file of results, one page.

python -m benchmarks.quality --help
"""

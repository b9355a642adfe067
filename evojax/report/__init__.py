"""The report of a run: the progress it shows, its tables, pictures and page.

For example:

    with evojax.report.progress() as watch:
        evolve(..., watch=watch)
    page = evojax.report.write(run_dir)
"""

from evojax.report.progress import progress
from evojax.report.terminal import console
from evojax.report.write import write

__all__ = ["console", "progress", "write"]

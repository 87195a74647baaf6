"""The source's tables 1, 2 and 7 (arXiv 2410.02197) from the files that fits, evaluations and benchmarks leave.

    results, remarks = read_results(["runs/"])       # results.py: files → one Result a model, set and seed
    for table in source_tables(results):             # tables.py: Results → Tables, means and intervals by estimate.py
        print(to_markdown(table))                    # render.py: Table → markdown, CSV

(`gpmjax.reports.tables.evaluation` is another thing: one summary on a terminal.)
"""

from gpmjax.reports.source_tables.render import Table as Table
from gpmjax.reports.source_tables.render import to_csv as to_csv
from gpmjax.reports.source_tables.render import to_markdown as to_markdown
from gpmjax.reports.source_tables.results import Result as Result
from gpmjax.reports.source_tables.results import read_results as read_results
from gpmjax.reports.source_tables.tables import TABLES as TABLES
from gpmjax.reports.source_tables.tables import source_tables as source_tables

"""The paper's tables 1, 2 and 7 (arXiv 2410.02197) from the files that fits, evaluations and benchmarks write.

    results, remarks = read_results(["runs/"])       # results.py: files → one Result per model, set and seed
    for table in paper_tables(results):              # tables.py: Results → Tables; means and intervals by estimate.py
        print(to_markdown(table))                    # render.py: Table → markdown, CSV

`gpmjax.reports.terminal_tables` prints one summary on a terminal.
"""

from gpmjax.reports.paper_tables.render import Table as Table
from gpmjax.reports.paper_tables.render import to_csv as to_csv
from gpmjax.reports.paper_tables.render import to_markdown as to_markdown
from gpmjax.reports.paper_tables.results import Result as Result
from gpmjax.reports.paper_tables.results import read_results as read_results
from gpmjax.reports.paper_tables.tables import TABLES as TABLES
from gpmjax.reports.paper_tables.tables import paper_tables as paper_tables

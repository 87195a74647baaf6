"""One self-contained HTML page of what runs and evaluations left on disk: no script, no request, nothing beside the file.

    folders.py    which directories are runs, and what lies in them
    sections.py   a run's documents → facts and rows of figures
    examples.py   groups with texts and scores → heat maps
    build.py      all of it and the pictures, by page.html.j2 and page.css → HTML

Pictures are drawn by whoever calls (launch/report.py): this package knows nothing of matplotlib.
"""

from gpmjax.reports.page.build import Picture as Picture
from gpmjax.reports.page.build import read_picture as read_picture
from gpmjax.reports.page.build import render_page as render_page
from gpmjax.reports.page.folders import Chapter as Chapter
from gpmjax.reports.page.folders import find_chapters as find_chapters

"""One self-contained HTML page of the files that runs and evaluations write: no script, no request, no second file.

    folders.py    finds the directories that are runs, and reads their files
    sections.py   a run's documents → facts and rows of figures
    examples.py   groups with texts and scores → heat maps
    build.py      all of these and the pictures → HTML, by page.html.j2 and page.css

The caller draws the pictures (launch/report.py). This package does not import matplotlib.
"""

from gpmjax.reports.page.build import Picture as Picture
from gpmjax.reports.page.build import read_picture as read_picture
from gpmjax.reports.page.build import render_page as render_page
from gpmjax.reports.page.folders import Chapter as Chapter
from gpmjax.reports.page.folders import find_chapters as find_chapters

"""Pictures of finished or running work. Reads the files that runs write and imports nothing else of gpmjax."""

from gpmjax.reports.plots.folder import draw_folders as draw_folders
from gpmjax.reports.plots.folder import draw_run as draw_run

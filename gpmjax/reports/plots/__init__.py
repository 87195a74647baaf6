"""Pictures of finished or running work, drawn from the files that runs write.

The package imports nothing of gpmjax but ``gpmjax.files``, so that drawing needs no JAX.
"""

from gpmjax.reports.plots.folder import draw_folders as draw_folders
from gpmjax.reports.plots.folder import draw_run as draw_run

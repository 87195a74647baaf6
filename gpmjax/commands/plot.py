"""Draw what one or several run folders hold, as PNG.

gpmjax plot --folder=runs/demo
gpmjax plot --folder=runs/bt,runs/gpm --out=runs/plots --title="SmolLM2 on letters"
"""

import sys

from absl import flags

from gpmjax.owner import check_output_directory
from gpmjax.reports.plots.folder import draw_folders

FOLDER = flags.DEFINE_list("folder", None, "Run folders; their curves share one picture.", required=True)
OUT = flags.DEFINE_string("out", None, "Where the pictures go; the first folder's plots/ when absent.")
TITLE = flags.DEFINE_string("title", "", "Written above each picture.")


def main(_: list[str]) -> None:
    """Draws the pictures of the folders."""
    try:
        if OUT.value:
            check_output_directory(OUT.value)
        written = draw_folders(FOLDER.value, OUT.value or f"{FOLDER.value[0]}/plots", title=TITLE.value)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(*written, sep="\n")

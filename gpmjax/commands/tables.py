"""The source's tables 1, 2 and 7 from what runs, evaluations and benchmarks left on disk.

    gpmjax tables runs/                               # every table that the files below can fill, as markdown
    gpmjax tables --table=2 --out=tables runs/*/rewardbench.json      # tables/table2_….md and .csv
    gpmjax tables --table=7 --set='ukp*' --rename=ablation=ukp_arguments benchmarks/results/real_data.json

Models are grouped by base model and settings; seeds of the same become a mean.
"""

import fnmatch
import sys
from pathlib import Path

from absl import flags

from gpmjax.files import replacing
from gpmjax.owner import check_output_directory
from gpmjax.reports.paper_tables import TABLES, Result, paper_tables, read_results, to_csv, to_markdown

TABLE = flags.DEFINE_multi_enum("table", [str(n) for n in TABLES], [str(n) for n in TABLES], "Which tables.")
SET = flags.DEFINE_list("set", [], "Patterns of the sets and benchmarks to include ('ukp*'); all when empty.")
RENAME = flags.DEFINE_list("rename", [], "OLD=NEW: sets that are the same data under another name.")
GATE = flags.DEFINE_string("gate", "", "Only general preference models with this gate.")
NORMALISE = flags.DEFINE_string("normalise", "", "Only general preference models with this normalisation.")
OUT = flags.DEFINE_string("out", "", "Directory for one .md and one .csv a table; printed as markdown when empty.")


def chosen(results: list[Result]) -> list[Result]:
    """Those that the flags ask for, sets renamed."""
    if wrong := [pair for pair in RENAME.value if pair.count("=") != 1]:
        raise ValueError(f"--rename={wrong[0]}: must be OLD=NEW")
    names = dict(pair.split("=") for pair in RENAME.value)
    found: dict[tuple, Result] = {}
    for result in (result._replace(set=names.get(result.set, result.set)) for result in results):
        settings = result.settings
        wanted = {"gate": GATE.value or settings.gate, "normalise": NORMALISE.value or settings.normalise}
        if SET.value and not any(fnmatch.fnmatch(result.set, pattern) for pattern in SET.value):
            continue
        if settings.kind == "gpm" and settings != settings._replace(**wanted):
            continue
        found.setdefault((settings, result.set, result.seed), result)
    if not found:
        raise ValueError(f"--set={','.join(SET.value)}: the files have {', '.join(sorted({r.set for r in results}))}")
    return list(found.values())


def main(argv: list[str]) -> None:
    """Prints the tables, or writes them."""
    if len(argv) < 2:
        sys.exit("error: name run directories or summary files")
    try:
        if OUT.value:
            check_output_directory(OUT.value)
        results, remarks = read_results(argv[1:])
        tables = paper_tables(chosen(results), map(int, TABLE.value))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(*remarks, sep="\n", end="\n" * bool(remarks), file=sys.stderr)
    if not tables:
        sys.exit(f"error: nothing for table {', '.join(TABLE.value)} in {', '.join(argv[1:])}")
    if not OUT.value:
        print("\n\n".join(map(to_markdown, tables)))
        return
    try:
        for table in tables:
            for suffix, text in ((".md", to_markdown(table) + "\n"), (".csv", to_csv(table))):
                path = Path(OUT.value) / (table.name + suffix)
                with replacing(path) as partial:
                    partial.write_text(text, encoding="utf-8")
                print(path)
    except OSError as error:
        sys.exit(f"error: {error}")

"""Published benchmarks of preference models, each in its authors' format and scored by its authors' rules.

    python launch/evaluate.py --model=runs/gpm/model --benchmark=rewardbench --data=allenai/reward-bench --out=rb.json

`run.run_benchmark` runs a benchmark with any `gpmjax.judges.judge.Judge`.
"""

from gpmjax.evals.benchmarks.aggregation import AGGREGATIONS, Aggregation
from gpmjax.evals.benchmarks.cyclic import CYCLIC
from gpmjax.evals.benchmarks.judgebench import JUDGEBENCH
from gpmjax.evals.benchmarks.protocol import Benchmark
from gpmjax.evals.benchmarks.rewardbench import REWARDBENCH
from gpmjax.evals.benchmarks.rewardbench2 import REWARDBENCH2
from gpmjax.evals.benchmarks.rm_bench import RM_BENCH
from gpmjax.evals.benchmarks.run import run_benchmark

__all__ = ["AGGREGATIONS", "BENCHMARKS", "Aggregation", "Benchmark", "run_benchmark"]

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (REWARDBENCH, REWARDBENCH2, RM_BENCH, JUDGEBENCH, CYCLIC)
}

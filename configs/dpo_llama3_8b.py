"""Iterative DPO on Llama-3-8B-Instruct with pairs chosen by the preference model: gpo_llama3_8b.py with another loss.

Paper     Direct Preference Optimization, arXiv 2305.18290; iterated with a general preference model's signal as in
          remark 5.2 of arXiv 2410.02197.
Command   python launch/train.py --config=configs/dpo_llama3_8b.py --workdir=runs/dpo_llama3_8b
Data      As gpo_llama3_8b.py; a pair is the best and the worst of five responses. --config.loss.estimator=all takes
          every decided pair.
Recipe    As gpo_llama3_8b.py, but β = 0.1, because DPO multiplies the log-ratio by β, where GPO divides by it. Only the
          sign and the order of the scores matter, so loss.score_factor, 1 here, has no effect.
Hardware  As gpo_llama3_8b.py.
Expected  Not measured by us.
"""

from gpmjax.config import neighbour
from gpmjax.config.improve import ImproveConfig


def get_config() -> ImproveConfig:
    config = neighbour(__file__, "gpo_llama3_8b.py")
    config.loss.method, config.loss.beta, config.loss.score_factor = "dpo", 0.1, 1.0
    return config

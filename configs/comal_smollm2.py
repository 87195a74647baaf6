"""COMAL on SmolLM2-135M-Instruct: gpo_smollm2.py with another loss, on two CPU cores.

Paper     COMAL, arXiv 2410.23223, which uses INPO, arXiv 2407.00617; MPO, arXiv 2410.16714, has the same rule. Optimism
          is described in gpmjax/preference/self_play.py.
Command   python launch/train.py --config=configs/comal_smollm2.py --workdir=runs/comal_smollm2 \\
            --config.prompts.source=prompts.jsonl --config.scorer.model=runs/gpm_smollm2/model
Data      As gpo_smollm2.py: prompts, and a preference model fitted with gpm_smollm2.py.
Recipe    Four iterations; before the third, the policy of the second becomes the reference. The step size is 1/β = 10:
          win rates of 0.2 to 0.8 give targets of −3 to 3 nats, as the log-odds of gpo_smollm2.py do with β = 0.5. The
          mixture is m = 0.1.
Hardware  As gpo_smollm2.py: a laptop, two cores, 6 GB. An iteration takes up to two more forward passes over its
          samples.
Expected  Not measured yet. For games with a known equilibrium see docs/results/games.md.
"""

from gpmjax.config import neighbour
from gpmjax.config.improve import ImproveConfig, PolicyLossConfig


def get_config() -> ImproveConfig:
    config = neighbour(__file__, "gpo_smollm2.py")
    config.iterations = 4
    config.loss = PolicyLossConfig(
        method="comal", estimator="all", beta=0.1, mixture=0.1, reference_every=2, optimistic=True
    )
    return config

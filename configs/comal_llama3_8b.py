"""COMAL on Llama-3-8B-Instruct: gpo_llama3_8b.py with another loss; the policy to keep is the last one, not an average.

Paper     COMAL, arXiv 2410.23223, which uses INPO, arXiv 2407.00617; MPO, arXiv 2410.16714, has the same rule. Optimism
          is described in gpmjax/preference/self_play.py.
Command   python launch/train.py --config=configs/comal_llama3_8b.py --workdir=runs/comal_llama3_8b
Data      As gpo_llama3_8b.py, but all five responses of a prompt are trained on.
Recipe    Six iterations; before the fourth, the policy of the third becomes the reference. The step size is 1/β = 10,
          with targets of at most 5 nats. The mixture is m = 0.1, so m β = 0.01 regularises the game of three
          iterations. These values are ours, as the paper's could not be read. The learning rate and all else are those
          of gpo_llama3_8b.py. Win rates are the model's own, σ(s/τ). Optimism costs one more forward pass over the
          samples; --config.loss.optimistic=False turns it off.
Hardware  As gpo_llama3_8b.py. The six exported policies, 16 GB each, stay on disk, as later iterations read the
          reference from there.
Expected  Not measured by us. For games with a known equilibrium see docs/results/games.md.
"""

from gpmjax.config import neighbour
from gpmjax.config.improve import ImproveConfig, PolicyLossConfig


def get_config() -> ImproveConfig:
    config = neighbour(__file__, "gpo_llama3_8b.py")
    config.iterations = 6
    config.loss = PolicyLossConfig(
        method="comal", estimator="all", beta=0.1, mixture=0.1, reference_every=3, optimistic=True, score_factor=1.0
    )
    return config

"""PairPM on SmolLM2-135M-Instruct's frozen features: a head that reads two responses at once, in both orders.

Paper     Jiang et al. 2023 (PairRM), arXiv 2306.02561, has the template; section 2 of arXiv 2410.02197 compares with
          it.
Command   python launch/train.py --config=configs/pairpm_smollm2.py --workdir=runs/pairpm_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      As gpm_plain_smollm2.py. Every pair is read twice in full: K(K − 1) passes for K responses, instead of K.
Hardware  A laptop: two cores, 4 GB.
Expected  See docs/results/systems.md; a pairwise model has no ceiling on cycles.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_plain_smollm2.py")
    config.model = config.model.as_bradley_terry()
    config.model.kind = "pairwise"
    config.model.question = "candidates"
    return config

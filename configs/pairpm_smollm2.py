"""PairPM on SmolLM2-135M-Instruct's frozen features: a head that reads two responses at once, in both orders.

Paper     Jiang et al. 2023 (PairRM), arXiv 2306.02561, the template; arXiv 2410.02197 compares with it in section 2.
Command   python launch/train.py --config=configs/pairpm_smollm2.py --workdir=runs/pairpm_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      As gpm_plain_smollm2.py. Every pair is read twice at its full length: K(K − 1) passes for K responses, not K.
Hardware  A laptop: two cores, 4 GB.
Expected  See the README's table of all systems; on cycles a pairwise model has no ceiling.
"""

from gpmjax.config import Config, neighbour


def get_config() -> Config:
    config = neighbour(__file__, "gpm_plain_smollm2.py")
    config.model = config.model.as_bradley_terry()
    config.model.kind = "pairwise"
    config.model.question = "candidates"
    return config

"""The plain GPM on SmolLM2-135M-Instruct's frozen features, without a reward and without a penalty on cycles.

Paper     arXiv 2410.02197; a small version of gpm_gemma2b.py that trains only the heads. gpm_smollm2.py is better on
          nearly transitive votes, and as good on cycles.
Command   python launch/train.py --config=configs/gpm_plain_smollm2.py --workdir=runs/gpm_plain_smollm2 \\
            --config.data.train="('train.jsonl',)" --config.data.eval="('dev.jsonl',)"
Data      Yours; the default is the source's six letter cycles, for both training and evaluation.
Hardware  A laptop: two cores, 4 GB.
Expected  100 % on the letter cycles (bt_smollm2.py: at most 75 %). For real data see
          docs/results/preferences.md.
"""

from gpmjax.config import Config, DataConfig, LossConfig, ModelConfig, OptimizerConfig


def get_config() -> Config:
    return Config(
        epochs=30,
        eval_every=0,
        log_every=10,
        model=ModelConfig(
            source="smollm2",
            backbone="frozen",
            dim=8,
            # With unit length, heads on frozen features get stuck at "all responses equal" on a cycle:
            # docs/concepts/unit_length_and_ties.md.
            normalise="none",
            tau=1.0,
            dtype="float32",
            remat="none",
            # For a CPU; on other devices use xla or flash.
            attention="blockwise",
        ),
        data=DataConfig(
            train=("builtin:letters",),
            eval=("builtin:letters",),
            max_length=512,
            rows=32,
            packing="single",
        ),
        loss=LossConfig(),
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_fraction=0.03),
    )

"""GPO on SmolLM2-135M-Instruct: three iterations on two CPU cores.

Paper     arXiv 2410.02197, section 5 (5.6 and 5.7), with the smallest language model.
Command   python benchmarks/gpo_smollm2.py --workdir=runs/gpo_smollm2      (makes data, scorer and judge, then this)
          python launch/train.py --config=configs/gpo_smollm2.py --workdir=runs/gpo_smollm2/run \\
            --config.prompts.source=prompts.jsonl --config.scorer.model=runs/gpm_smollm2/model
Data      Yours: prompts, and a preference model fitted with gpm_smollm2.py.
Hardware  A laptop: two cores, 6 GB.
Expected  Measured (20 questions, one seed): win rates over the first policy of 68, 70, 74 % by the scorer and 58, 52,
          53 % by another model; answers grow from 33 to 39 tokens. See docs/results/policies.md.

It differs from the released recipe (gpo_llama3_8b.py) as follows. It trains low-rank adapters with Adam, because each
of the few steps must have an effect. It uses all K responses, because there are few prompts. β is of the size of the
scores, for targets of a few nats. Scores are s/τ as in the paper's equation (5.6) (loss.score_factor = 1), not 2 s/τ as
in the released scoring code.
"""

from gpmjax.config import BackboneConfig, CheckpointConfig, OptimizerConfig
from gpmjax.config.improve import ImproveConfig, PolicyLossConfig, PromptsConfig, RolloutConfig, ScorerConfig


def get_config() -> ImproveConfig:
    return ImproveConfig(
        iterations=3,
        batch=2,
        policy=BackboneConfig(
            source="smollm2",
            lora_rank=16,
            lora_alpha=32.0,
            lora_targets=("q", "k", "v", "o", "gate", "up", "down"),
            dtype="float32",
            remat="none",
        ),
        prompts=PromptsConfig(source="prompts.jsonl", max_length=256),
        rollout=RolloutConfig(responses=4, temperature=1.0, top_p=0.95, max_new_tokens=40, rows=20, prompts_a_file=20),
        scorer=ScorerConfig(model="runs/gpm_smollm2/model", dtype="float32", max_length=512, rows=8),
        # The measured runs had log Z → 0, as in the paper; the library's default is centred residuals.
        loss=PolicyLossConfig(
            method="gpo", estimator="all", beta=0.5, score="log_odds", score_factor=1.0, log_partition="zero"
        ),
        optimizer=OptimizerConfig(learning_rate=3e-4, schedule="linear", warmup_fraction=0.1, weight_decay=0.0),
        checkpoint=CheckpointConfig(every=0, keep=1),
    )

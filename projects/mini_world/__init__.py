"""Procedural scenes of shapes, colours, textures and sizes, for pre-training and for shifted
tasks.
"""

from .caption_pairs import SceneCaptionDataset
from .clip_pretraining import CLIPPretraining
from .grounding import SceneGroundingDataset
from .render import Scene, SceneRenderer, Style
from .task_dataset import SceneTaskDataset, generate_task
from .tasks import TASKS, SceneTask
from .tower_init import IdentityTowerInit
from .world import Concept, held_out_combinations, matches, parse_phrase, seen_combinations

__all__ = [
    "TASKS",
    "CLIPPretraining",
    "Concept",
    "IdentityTowerInit",
    "Scene",
    "SceneCaptionDataset",
    "SceneGroundingDataset",
    "SceneRenderer",
    "SceneTask",
    "SceneTaskDataset",
    "Style",
    "generate_task",
    "held_out_combinations",
    "matches",
    "parse_phrase",
    "seen_combinations",
]

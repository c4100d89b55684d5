"""What a network is: spatial transformers, the classifiers around them, and their checkpoints."""

from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .grid import (
    GRID_GENERATORS,
    AffineGrid,
    AttentionGrid,
    GridGenerator,
    ProjectiveGrid,
    SimilarityGrid,
    ThinPlateSplineGrid,
    make_grid,
)
from .localization import LocalizationNet, conv_features
from .registry import REGISTRY, Architecture, parameter_table
from .sampler import Normalize, Sampler
from .threshold import Labelling, find_threshold, measure_threshold
from .transformer import (
    ParallelTransformers,
    SpatialTransformer,
    TransformCall,
    held_at_identity,
    injected_thetas,
    insert_spatial_transformer,
    localization_parameters,
    make_transformer,
    recorded_transforms,
)

__all__ = [
    "GRID_GENERATORS",
    "REGISTRY",
    "AffineGrid",
    "Architecture",
    "AttentionGrid",
    "Checkpoint",
    "CheckpointError",
    "GridGenerator",
    "Labelling",
    "LocalizationNet",
    "Normalize",
    "ParallelTransformers",
    "ProjectiveGrid",
    "Sampler",
    "SimilarityGrid",
    "SpatialTransformer",
    "ThinPlateSplineGrid",
    "TransformCall",
    "conv_features",
    "find_threshold",
    "held_at_identity",
    "injected_thetas",
    "insert_spatial_transformer",
    "load_checkpoint",
    "localization_parameters",
    "make_grid",
    "make_transformer",
    "measure_threshold",
    "parameter_table",
    "recorded_transforms",
    "save_checkpoint",
]

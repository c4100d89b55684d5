"""Anchor boxes: the sizes that the boxes of a detection data set gather around."""

from .annotations import Annotations, read_annotations
from .clusters import Clusters, cluster_boxes, find_elbow

__all__ = ["Annotations", "Clusters", "cluster_boxes", "find_elbow", "read_annotations"]

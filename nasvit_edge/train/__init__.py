"""Supernet training."""

from nasvit_edge.train.loop import TrainSettings, train
from nasvit_edge.train.run import run

__all__ = ["TrainSettings", "run", "train"]

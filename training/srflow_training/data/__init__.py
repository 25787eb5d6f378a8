"""Training data: random crops of the photographs in a folder, and their LR images."""

from srflow_training.data._crops import Batch, Crops
from srflow_training.data._folders import Photo, Photos
from srflow_training.data._images import halved, image_files, read_photo, to_image
from srflow_training.data._loading import loader

__all__ = ["Batch", "Crops", "Photo", "Photos", "halved", "image_files", "loader", "read_photo", "to_image"]

"""Training data: random crops of the photographs in a folder, and their LR images."""

from srflow_training.data._crops import Batch, Crops, loader, pairs_picture
from srflow_training.data._decoding import DecodedCache, choose_cache
from srflow_training.data._degradation import MARGIN, degrade
from srflow_training.data._folders import Photo, Photos, teacher_name
from srflow_training.data._images import coded, halved, image_files, read_photo, to_image

__all__ = [
    "MARGIN",
    "Batch",
    "Crops",
    "DecodedCache",
    "Photo",
    "Photos",
    "choose_cache",
    "coded",
    "degrade",
    "halved",
    "image_files",
    "loader",
    "pairs_picture",
    "read_photo",
    "teacher_name",
    "to_image",
]

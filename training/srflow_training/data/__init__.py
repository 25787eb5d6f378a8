"""Training data: random crops of the photographs in a folder, and their LR images."""

from srflow_training.data.crops import Batch, Crops, loader, pairs_picture
from srflow_training.data.damage import MARGIN, degrade, gaussian_blur, gaussian_noise
from srflow_training.data.photographs import (
    Photo,
    Photos,
    Report,
    halve,
    image_files,
    read_photo,
    recompress,
    report_skipped,
    size_of,
    teacher_name,
    to_image,
    to_pixels,
)

__all__ = [
    "MARGIN",
    "Batch",
    "Crops",
    "Photo",
    "Photos",
    "Report",
    "degrade",
    "gaussian_blur",
    "gaussian_noise",
    "halve",
    "image_files",
    "loader",
    "pairs_picture",
    "read_photo",
    "recompress",
    "report_skipped",
    "size_of",
    "teacher_name",
    "to_image",
    "to_pixels",
]

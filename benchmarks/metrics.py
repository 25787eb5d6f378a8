"""What each metric of `srflow-eval` costs: seconds of processor time for a photograph, the mean over a folder.

Run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from srflow_evaluation.convention import Convention
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_training.resampling import enlarge_bicubic


def main() -> None:
    """Print a line for each metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hr", type=Path, help="folder of photographs, which are compared with bicubic's pictures")
    folder = parser.parse_args().hr
    torch.set_num_threads(1)
    cut = Cut(scale=4, multiple=8)
    pictures = [read_picture(files, cut, "bicubic") for files in picture_files(folder, lr=None, others={}, cut=cut)]
    images = [enlarge_bicubic(picture.lr, 4) for picture in pictures]
    pixels = sum(picture.hr.shape[2] * picture.hr.shape[3] for picture in pictures)
    print(f"{len(pictures)} photographs of {pixels / len(pictures) / 1e6:.2f} megapixels on average")
    for metric in Convention(name="default", scale=4, reduction="bicubic").metrics(niqe=True):
        start = time.process_time()
        for image, picture in zip(images, pictures, strict=True):
            metric.measure(image, picture)
        print(f"{metric.name:12} {(time.process_time() - start) / len(pictures):.3f} s")


if __name__ == "__main__":
    main()

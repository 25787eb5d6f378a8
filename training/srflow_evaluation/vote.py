"""The protocol `vote`: a page on which people choose the better picture without knowing whose it is."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srflow_evaluation.arrays import to_pixels
from srflow_evaluation.damaged import Field, open_field, parse_damages
from srflow_evaluation.options import Options
from srflow_evaluation.page import data_uri, render_template
from srflow_evaluation.pictures import read_picture
from srflow_evaluation.tables import Table
from srflow_evaluation.votes import FORMAT
from srflow_sdk.errors import ArgumentError
from srflow_sdk.system.atomic import write_atomically

DAMAGES = ("noise:5+jpeg:60", "blur:0.5+noise:5+jpeg:50", "bayer:4")
"""Damages if none is named: three questions for each photograph."""

PAGE = "vote.html"

_MOST_CANDIDATES = 9  # as many as there are keys


@torch.no_grad()
def vote(options: Options) -> Table:
    """Write vote.html: for each photograph and damage the pictures of all methods, shuffled; return what it holds.

    The methods are the models, each at its default τ or at `--tau`, and other methods; bicubic only if there would be
    one alone. The order follows from `options.seed`. Raises: SRFlowError.
    """
    damages = parse_damages(options.degradations or DAMAGES)
    field = open_field(options, lambda subject: (subject.default_tau,))
    others = [entry for entry in field.entries if entry.method != "bicubic"]
    field = replace(field, entries=others if len(others) > 1 else field.entries, damages=damages)
    names = [entry.name for entry in field.entries]
    if len(names) > _MOST_CANDIDATES:
        raise ArgumentError(f"a page with {len(names)} pictures a row is too much to choose from: name fewer methods")
    random = np.random.default_rng(options.seed or 0)
    questions = _questions(field, options, random)
    shuffled = [questions[index] for index in random.permutation(len(questions))]
    identity = hashlib.sha256(json.dumps([names, shuffled]).encode()).hexdigest()
    data = {"format": FORMAT, "page": identity, "methods": names, "questions": shuffled}
    options.out.mkdir(parents=True, exist_ok=True)
    content = render_template("vote.html", data=data, count=len(names), side=field.bench.cut.centre)
    write_atomically(options.out / PAGE, content)
    size = len(content) / 1e6
    note = f"{options.out / PAGE}: {size:.1f} MB; open it in a browser, or send it to those who are to vote."
    rows = [[name, str(len(shuffled))] for name in names]
    return Table(["method", "pictures"], rows, [note])


def _questions(field: Field, options: Options, random: np.random.Generator) -> list[dict[str, object]]:
    """The questions of the page, in the order of pictures and damages; the methods of each in random order."""
    questions: list[dict[str, object]] = []
    for number, files in enumerate(field.bench.pictures, start=1):
        options.progress(f"picture {number} of {len(field.bench.pictures)}: {files.name}")
        picture = read_picture(files, field.bench.cut, field.bench.subject.reduction)
        for damage in field.damages:
            seen = field.seen(picture, damage)
            order = [int(index) for index in random.permutation(len(field.entries))]
            images = [field.entries[index].image(seen, damage) for index in order]
            questions.append(
                {
                    "picture": picture.name,
                    "damage": str(damage),
                    "order": order,
                    "input": _source(seen.lr),
                    "images": [_source(image) for image in images],
                }
            )
    return questions


def _source(image: Tensor) -> str:
    content = io.BytesIO()
    Image.fromarray(to_pixels(image.nan_to_num(0.0))).save(content, format="PNG")
    return data_uri(content.getvalue())

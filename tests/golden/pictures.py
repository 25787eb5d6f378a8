"""Pictures and metadata that no change of the code may change: ``python -m tests.golden.pictures
[--write] [NAME …]``.

pictures.json has each one's call: a command, or Python with the names of :func:`make_names`, run in
a folder that has ``inputs/`` and the pinned bundle. Beside it stand the hash of what came out, and
its parsed metadata. pictures.npz has the values themselves, floats in half precision, for
processors that compute otherwise. Without ``--write`` it prints what differs; with it, it renews
the named ones (or all) after a change that is meant to change pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, IptcImagePlugin

from srflow_sdk import FileResult, Latents, OutputSize, Upscaler, read_provenance
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.system import libvips  # which silences it, unless somebody imported it before

HERE = Path(__file__).parent
RECORD = HERE / "pictures.json"
VALUES = HERE / "pictures.npz"
BUNDLE = "x4-small.srflow"
LIBRARIES = ("onnxruntime", "numpy", "pillow", "pyvips", "pyvips-binary", "opencv-python-headless")
EXIF_FOLDERS = {"Exif": 0x8769, "GPS": 0x8825}
# Of a TIFF: what says how and where its pixels lie and who wrote it, and blocks that are compared
# otherwise.
LEFT_OUT = {
    258,
    259,
    262,
    273,
    277,
    278,
    279,
    284,
    305,
    317,
    322,
    323,
    324,
    325,
    338,
    339,
    700,
    34675,
}
STABLE = (
    "model tau auto_tau seed sample tile consistent source scale reduction linear_light "
    "value_range operation precision"
)


def machine() -> dict[str, str]:
    """What decides about the last bit: the processor's name and the libraries' versions."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"processor": processor()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def processor() -> str:
    """The processor's name, family and model, on Linux; elsewhere its kind."""
    if sys.platform != "linux":
        return platform.machine()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    about = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    name = about.get("model name", platform.machine())
    return f"{name}, family {about.get('cpu family')}, model {about.get('model')}"


def read_record() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def prepare(folder: Path) -> None:
    shutil.copytree(HERE / "inputs", folder, dirs_exist_ok=True)
    shutil.copytree(HERE / BUNDLE, folder / BUNDLE)


def make_names(folder: Path) -> dict[str, Any]:
    """What calls may name: an upscaler, what it encoded, and latents of two pictures."""

    def upscaler(**options: Any) -> Upscaler:
        return Upscaler(folder / BUNDLE, device="cpu", threads=1, **options)

    def pixels(name: str) -> np.ndarray:
        return np.asarray(Image.open(folder / name))

    def frames(**options: Any) -> list[np.ndarray]:
        clip = FrameUpscaler(up, **options)
        return [clip.draw(pixels(f"frames/f{number}.png"), number) for number in range(3)]

    up = upscaler()
    encoding = up.encode(pixels("rgb.png"))
    pair = up.encode(pixels("lr.png"))
    latents = pair.invert(pixels("hr.png"))
    other = up.encode(pixels("source_lr.png")).invert(pixels("source.png"))
    return {
        "np": np,
        "Image": Image,
        "Latents": Latents,
        "OutputSize": OutputSize,
        "upscaler": upscaler,
        "up": up,
        "pixels": pixels,
        "frames": frames,
        "encoding": encoding,
        "pair": pair,
        "latents": latents,
        "other": other,
        "mask": pixels("mask.png") > 127,
    }


def compute(call: str, names: dict[str, Any], folder: Path) -> tuple[list[np.ndarray], list[Any]]:
    """The arrays that a call makes, and the metadata of the files among them."""
    if call.startswith("srflow-"):
        command, *arguments = shlex.split(call)
        done = subprocess.run(
            [
                Path(sys.executable).parent / command,
                *arguments,
                "--device",
                "cpu",
                "--threads",
                "1",
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"{call}: {done.stderr}")
        return _read_files([folder / line for line in done.stdout.splitlines()])
    result = eval(call, {**names, "folder": folder})
    if isinstance(result, FileResult):
        return _read_files([output.path for output in result.outputs])
    if isinstance(result, Latents):
        result = list(result.levels.values())
    parts = result if isinstance(result, (list, tuple)) else [result]
    return [np.asarray(part) for part in parts], []


def _read_files(paths: list[Path]) -> tuple[list[np.ndarray], list[Any]]:
    paths = [
        file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    arrays = [np.asarray(libvips.pyvips().Image.new_from_file(str(path)).numpy()) for path in paths]
    return arrays, [json.loads(json.dumps(read_metadata(path))) for path in paths]


def read_metadata(path: Path) -> dict[str, Any]:
    """What Pillow, or tifffile, finds in a file but for its pixels, and what is stable of its
    record of provenance."""
    found: dict[str, Any] = {"format": path.suffix}
    if (provenance := read_provenance(path)) is not None:
        found["provenance"] = {name: getattr(provenance, name) for name in STABLE.split()}
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            tags = {tag.code: tag.value for tag in file.pages.first.tags.values()}
        packet = tags.get(700)
        profile = tags.get(34675)
        found["tags"] = {
            str(tag): _text(value) for tag, value in sorted(tags.items()) if tag not in LEFT_OUT
        }
    else:
        with Image.open(path) as image:
            image.load()  # a PNG may have texts behind its pixels
            found["mode"], exif = image.mode, image.getexif()
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            profile = image.info.get("icc_profile")
            found["dpi"] = [round(float(value), 2) for value in image.info.get("dpi", ())]
            found["tags"] = {
                str(tag): _text(value)
                for tag, value in sorted(exif.items())
                if tag not in LEFT_OUT | {*EXIF_FOLDERS.values()}
            }
            for name, tag in EXIF_FOLDERS.items():
                found[name] = {
                    str(tag): _text(value) for tag, value in sorted(exif.get_ifd(tag).items())
                }
            lines = IptcImagePlugin.getiptcinfo(image) or {}
            found["iptc"] = {str(key): _text(value) for key, value in lines.items()}
    found["xmp"], found["profile"] = (
        _xmp(packet),
        hashlib.sha256(profile).hexdigest() if profile else None,
    )
    return {name: value for name, value in found.items() if value}


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _xmp(packet: bytes | str | None) -> list[str]:
    """The texts and attributes of a packet that are not ours."""
    if not packet:
        return []
    text = packet.decode() if isinstance(packet, bytes) else packet
    found = []
    for element in ET.fromstring(text.strip().strip("\0")).iter():
        pairs = [(element.tag, (element.text or "").strip()), *element.attrib.items()]
        found += [f"{name}={value}" for name, value in pairs if value and "srflow-sdk" not in name]
    return sorted(found)


def digest(arrays: list[np.ndarray]) -> str:
    """A hash of arrays' dtypes, shapes and values."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(
            f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
        )
    return hashed.hexdigest()


def to_stored(array: np.ndarray) -> np.ndarray:
    """What pictures.npz keeps of an array."""
    return array.astype(np.float16) if array.dtype.kind == "f" else array


def difference(before: list[np.ndarray], now: list[np.ndarray]) -> float:
    """The largest difference, in the values' own units; infinite if dtypes (but for halves) or
    shapes differ."""
    if [(to_stored(a).dtype, a.shape) for a in now] != [(b.dtype, b.shape) for b in before]:
        return float("inf")
    gaps = [
        np.abs(to_stored(a).astype(np.float64) - b.astype(np.float64))
        for a, b in zip(now, before, strict=True)
    ]
    return max(float(np.nanmax(gap)) for gap in gaps)


def allowed_difference(case: dict[str, Any], arrays: list[np.ndarray]) -> float:
    """How much another processor may change: 1/255 of the dtype's range, unless the case says
    otherwise."""
    widest = {"uint8": 1.0, "uint16": 257.0}
    return float(case.get("within", max(widest.get(array.dtype.name, 1 / 255) for array in arrays)))


def read_values(name: str) -> list[np.ndarray]:
    with np.load(VALUES) as values:
        keys = sorted(
            (key for key in values.files if key.split("/")[0] == name),
            key=lambda key: int(key.split("/")[1]),
        )
        return [values[key] for key in keys]


def main(arguments: list[str]) -> int:
    write = "--write" in arguments
    chosen = [word for word in arguments if not word.startswith("--")]
    recorded = read_record()
    with np.load(VALUES) as before:
        values = {key: before[key] for key in before.files}
    changed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        os.chdir(folder)
        names = make_names(folder)
        for name, case in recorded["cases"].items():
            if chosen and name not in chosen:
                continue
            arrays, metadata = compute(case["call"], names, folder)
            if (digest(arrays), metadata) == (case.get("sha256"), case.get("metadata", [])):
                continue
            changed.append(name)
            print(
                f"{name}: differs by {difference(read_values(name), arrays)}; another processor "
                f"may by {allowed_difference(case, arrays):.4g}"
            )
            case.update(sha256=digest(arrays), metadata=metadata)
            values = {key: value for key, value in values.items() if key.split("/")[0] != name}
            values |= {f"{name}/{number}": to_stored(array) for number, array in enumerate(arrays)}
    if write:
        recorded["machine"] = machine()
        RECORD.write_text(
            json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        values = {key: values[key] for key in values if key.split("/")[0] in recorded["cases"]}
        np.savez_compressed(VALUES, allow_pickle=False, **values)
    print(f"{len(changed)} differ of {len(chosen or recorded['cases'])}")
    return 1 if changed and not write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A small web service: post a photo, get it enlarged. Whoever hangs up stops the work for it.

    pip install aiohttp
    python examples/service.py --port 8080
    curl --data-binary @photo.jpg "http://127.0.0.1:8080/upscale?tau=0.5&seed=1&format=jpg" -o large.jpg

Photos pass through files, so memory does not grow with them. A photo that cannot be used is answered with status 400
and the SDK's own line. Before you open this to the world, put it behind a server that limits rates and sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from srflow_sdk import ArgumentError, AsyncUpscaler, ImageError

MAX_BYTES = 50_000_000
MAX_PIXELS = 24_000_000  # of a photo; the answer has 16 times as many
TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

UPSCALER = web.AppKey("upscaler", AsyncUpscaler)


async def upscale(request: web.Request) -> web.Response:
    """Answer one photo. aiohttp cancels this coroutine when the client hangs up, and that ends the upscaling."""
    ending = request.query.get("format", "png")
    try:
        tau = float(request.query["tau"]) if "tau" in request.query else None
        seed = int(request.query.get("seed", "0"))
        media_type = TYPES[ending]
    except (KeyError, ValueError):
        return refusal(f"tau and seed are numbers, and format is one of {', '.join(TYPES)}")
    photo = await request.read()
    with tempfile.TemporaryDirectory(prefix="srflow-service-") as folder:
        source, target = Path(folder) / "photo", Path(folder) / f"large.{ending}"
        try:
            await asyncio.to_thread(source.write_bytes, photo)
            await request.app[UPSCALER].upscale_file(source, target, tau=tau, seed=seed, max_pixels=MAX_PIXELS)
            return web.Response(body=await asyncio.to_thread(target.read_bytes), content_type=media_type)
        except asyncio.CancelledError:
            print("a client hung up: its picture is given up", flush=True)
            raise
        except (ArgumentError, ImageError) as error:
            return refusal(str(error).replace(str(source), "the photo"))


def refusal(why: str) -> web.Response:
    """What a client gets who sent something that cannot be used."""
    return web.json_response({"error": why}, status=400)


async def model(app: web.Application, *, bundle: Path | None) -> AsyncIterator[None]:
    """Load the model when the service starts, and release it when it ends."""
    async with AsyncUpscaler(bundle) as upscaler:
        app[UPSCALER] = upscaler
        yield


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one  [default: 8080]")
    parser.add_argument("--model", type=Path, help="bundle to use  [default: the embedded model]")
    arguments = parser.parse_args()
    app = web.Application(client_max_size=MAX_BYTES)
    app.add_routes([web.post("/upscale", upscale)])
    app.cleanup_ctx.append(functools.partial(model, bundle=arguments.model))
    web.run_app(app, host="127.0.0.1", port=arguments.port, handler_cancellation=True, print=say)


def say(line: str) -> None:
    """Print without delay, for whoever waits for the address."""
    print(line, flush=True)


if __name__ == "__main__":
    main()

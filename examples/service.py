"""A web service: post a photo, get it enlarged. Whoever hangs up stops the work for it.

    pip install . fastapi uvicorn prometheus-client
    SRFLOW_TOKEN=choose-one python examples/service.py --port 8080

    curl --data-binary @photo.jpg -H "Authorization: Bearer choose-one" \\
        "http://127.0.0.1:8080/upscale?tau=0.5&seed=1&format=jpg" -o large.jpg

`/docs` describes the requests (its page loads Swagger from a CDN; `/openapi.json` is the same without). `/health` says
that the process lives, `/ready` that it would take a photo now, and `/metrics` counts for Prometheus. Photos pass
through files, so memory does not grow with them. Every refusal is JSON with one line: {"error": "…"}. A place among
those who wait is taken once the upload is complete; who came first is drawn first. Those for whom there is no place are
told so at once, and each when to come again: one after the other.

    400  the photo cannot be used    413  the upload is too large      422  tau, seed or format is wrong
    401  the token is wrong          415  the body is a form           503  too many wait; see Retry-After
    408  the upload takes too long
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import ipaddress
import math
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from srflow_sdk import ArgumentError, AsyncUpscaler, Bundle, ImageError, SRFlowError, __version__

MAX_PIXELS = 24_000_000  # of a photo; the answer has 16 times as many
UPLOAD_S = 60.0
LONGEST_WAIT_S = 600  # that anybody is told to wait before the next try
UPLOADS = 64  # at a time; how many of them one client may have, a proxy in front decides
TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
TOKEN = "SRFLOW_TOKEN"
# Hints of the SDK, and what a client can do instead
FOR_CLIENTS = {
    "if you trust the file, raise max_pixels (--max-pixels)": "send a smaller photo",
    "use .png or .tif": "use format=png",
    "use .png or .webp": "use format=png or format=webp",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """at_once: photos that are enlarged at a time. queue: photos that may wait beside them. max_bytes: of an upload.

    token: what clients must send; empty: nothing. model: a bundle; None: the embedded one that suits each photo.
    """

    at_once: int = 1
    queue: int = 8
    max_bytes: int = 50_000_000
    token: str = ""
    model: Bundle | None = None


class Metrics:
    """What Prometheus asks for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("srflow_answers", "Requests by their outcome", ["outcome"], registry=self.registry)
        self.seconds = Histogram(
            "srflow_seconds", "Time to enlarge a photo", buckets=(0.5, 1, 2, 5, 10, 30, 60, 120), registry=self.registry
        )
        self.running = Gauge("srflow_running", "Photos that are being enlarged", registry=self.registry)
        self.uploads = Gauge("srflow_uploads", "Uploads that are not complete yet", registry=self.registry)
        self.waiting = Gauge("srflow_waiting", "Photos that wait for their turn", registry=self.registry)


class Turns:
    """Lets a few photos in at a time and a few wait; more than that are refused."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._most = settings.at_once + settings.queue
        self._at_once = settings.at_once
        self._free = asyncio.Semaphore(settings.at_once)
        self._metrics = metrics
        self._inside = 0
        self._uploads = 0
        self._usual_s = 5.0
        self._promised = 0.0  # when the last who was refused may come again, in the loop's time

    @property
    def full(self) -> bool:
        """Whether another photo would be refused."""
        return self._inside >= self._most

    @property
    def open(self) -> bool:
        """Whether an upload that begins now would be taken."""
        return not self.full and self._uploads < UPLOADS

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Room for an upload. Raises: HTTPException 503 if there is none, or if the photo would be refused now."""
        self._check_room()
        if self._uploads >= UPLOADS:
            raise HTTPException(503, "too many uploads are on their way: try again", headers=_again(1))
        self._uploads += 1
        try:
            with self._metrics.uploads.track_inprogress():
                yield
        finally:
            self._uploads -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Callable[[], Any]]:
        """A place among those who wait. It gives what waits for the turn: ``async with turn():``.

        Raises: HTTPException 503 if there is none.
        """
        self._check_room()
        self._inside += 1
        try:
            yield self._turn
        finally:
            self._inside -= 1

    def _check_room(self) -> None:
        if not self.full:
            return
        # Each who is refused is told of the next place that nobody else was told of, so that they come in turn.
        now = asyncio.get_running_loop().time()
        self._promised = min(max(self._promised, now) + self._usual_s / self._at_once, now + LONGEST_WAIT_S)
        seconds = max(1, math.ceil(self._promised - now))
        raise HTTPException(503, f"too many photos wait: try again in about {seconds} s", headers=_again(seconds))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        with self._metrics.waiting.track_inprogress():
            await self._free.acquire()
        start = asyncio.get_running_loop().time()
        try:
            with self._metrics.running.track_inprogress():
                yield
            seconds = asyncio.get_running_loop().time() - start
            self._metrics.seconds.observe(seconds)
            self._usual_s += (seconds - self._usual_s) / 4
        finally:
            self._free.release()


def _again(seconds: int) -> dict[str, str]:
    # The body may not have been read: the connection cannot be used again.
    return {"Retry-After": str(seconds), "Connection": "close"}


class Enlarged(FileResponse):
    """The answer, sent in pieces from its folder, which goes when all was sent or the client is gone."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str], path: Path, media_type: str) -> None:
        super().__init__(path, media_type=media_type)
        self._folder = folder

    async def __call__(self, *connection: Any) -> None:
        try:
            await super().__call__(*connection)
        finally:
            self._folder.cleanup()


async def receive(request: Request, target: Path, most: int) -> None:
    """Write an upload to a file.

    Raises: HTTPException 413 as soon as it is too large, 408 if it takes too long; ClientDisconnect if it ends early.
    """
    too_large = HTTPException(
        413, f"the upload is larger than {most / 1e6:g} MB: send a smaller photo", headers={"Connection": "close"}
    )
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large

    async def write() -> None:
        size = 0
        with target.open("wb") as file:
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large
                await asyncio.to_thread(file.write, piece)

    try:
        await asyncio.wait_for(write(), UPLOAD_S)
    except asyncio.TimeoutError:
        raise HTTPException(
            408, f"the upload took more than {UPLOAD_S:g} s: send it faster", headers={"Connection": "close"}
        ) from None


async def unless_client_leaves(request: Request, work: Awaitable[None]) -> bool:
    """Await the work, and cancel it when the client hangs up. Whether it was done."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        if done:
            working.result()  # raises its error
        return done
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def status_of(error: SRFlowError) -> int:
    """The HTTP status of the SDK's error."""
    if isinstance(error, ArgumentError):
        return 422
    return 400 if isinstance(error, ImageError) else 500


def for_clients(error: SRFlowError, names: dict[Path, str]) -> str:
    """The error's line, with what a client knows: no paths of this machine, no options of the SDK."""
    line = str(error)
    for path, name in names.items():
        line = line.replace(str(path), name)
    for hint, instead in FOR_CLIENTS.items():
        line = line.replace(hint, instead)
    return line


def service(settings: Settings) -> FastAPI:
    """The application, for uvicorn or any other ASGI server. The model is loaded when it starts; of two, the first."""
    metrics = Metrics()
    turns = Turns(settings, metrics)
    loaded: dict[str, AsyncUpscaler] = {}

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncUpscaler(settings.model, at_once=settings.at_once) as upscaler:
            loaded["upscaler"] = upscaler
            yield
            loaded.clear()

    async def allowed(request: Request) -> None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(sent.encode(), settings.token.encode()) and scheme.lower() == "bearer"
        if settings.token and not right:
            raise HTTPException(
                401, 'the token is wrong: send "Authorization: Bearer …"', headers={"WWW-Authenticate": "Bearer"}
            )

    app = FastAPI(title="SRFlow", version=__version__, lifespan=life)

    @app.exception_handler(AnyHTTPException)  # FastAPI's own, and Starlette's for unknown paths and methods
    async def refused(_: Request, error: AnyHTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(422, f"{first['loc'][-1]}: {first['msg']}")

    def refusal(status: int, why: str, headers: Any = None) -> Response:
        metrics.answers.labels(str(status)).inc()
        return JSONResponse({"error": why}, status, headers)

    photo_body = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}

    @app.post(
        "/upscale",
        dependencies=[Depends(allowed)],
        response_class=FileResponse,
        openapi_extra={"requestBody": photo_body},
    )
    async def upscale(
        request: Request,
        tau: Annotated[str, Query(description='0 … 2, or "auto"; left out: the model\'s default')] = "",
        seed: Annotated[int, Query(ge=0, lt=2**64)] = 0,
        format: Literal["png", "jpg", "webp"] = "png",
    ) -> Response:
        """Enlarge the photo in the body, of any format that the SDK reads."""
        if request.headers.get("content-type", "").startswith("multipart/"):
            line = "the body is a form: send the photo itself as the body, as curl --data-binary @photo.jpg does"
            raise HTTPException(415, line, headers={"Connection": "close"})
        keywords: dict[str, Any] = {} if not tau else {"tau": tau if tau == "auto" else number(tau)}
        folder = tempfile.TemporaryDirectory(prefix="srflow-service-", ignore_cleanup_errors=True)
        source, target = Path(folder.name) / "photo", Path(folder.name) / f"large.{format}"
        answer: Response | None = None

        async def work(turn: Callable[[], Any]) -> None:
            async with turn():
                upscaler = loaded["upscaler"]
                await upscaler.upscale_file(source, target, seed=seed, max_pixels=MAX_PIXELS, **keywords)

        try:
            with turns.upload():
                await receive(request, source, settings.max_bytes)
            async with turns.place() as turn:
                done = await unless_client_leaves(request, work(turn))
            metrics.answers.labels("200" if done else "client left").inc()
            answer = Enlarged(folder, target, TYPES[format]) if done else Response(status_code=499)
            return answer
        except ClientDisconnect:  # before the upload was complete
            metrics.answers.labels("client left").inc()
            return Response(status_code=499)
        except SRFlowError as error:
            return refusal(status_of(error), for_clients(error, {source: "the photo", target: "the picture"}))
        finally:
            if not isinstance(answer, Enlarged):
                folder.cleanup()

    @app.get("/health", response_class=PlainTextResponse)
    async def health() -> str:
        """The process lives."""
        return "alive\n"

    @app.get("/ready", response_class=PlainTextResponse)
    async def ready() -> Response:
        """Whether a photo would be taken now."""
        free = bool(loaded) and turns.open
        return PlainTextResponse("ready\n" if free else "busy\n", 200 if free else 503)

    @app.get("/metrics", dependencies=[Depends(allowed)], response_class=PlainTextResponse)
    async def measured() -> Response:
        """The counts, in Prometheus's format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def number(text: str) -> float:
    """Raises: HTTPException 422 if it is none."""
    try:
        return float(text)
    except ValueError:
        raise HTTPException(422, f'tau is {text!r}: it must be a number from 0 to 2, or "auto"') from None


def main() -> None:
    """Read the command line and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help=f"other addresses need {TOKEN}  [default: 127.0.0.1]")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one  [default: 8080]")
    parser.add_argument("--model", default="auto", help="bundle, or an embedded model's name  [default: auto]")
    parser.add_argument("--at-once", type=int, default=1, help="photos enlarged at a time  [default: 1]")
    parser.add_argument("--queue", type=int, default=8, help="photos that may wait  [default: 8]")
    parser.add_argument("--max-mb", type=float, default=50, help="size of an upload  [default: 50]")
    arguments = parser.parse_args()
    token = os.environ.get(TOKEN, "")
    if not token and not on_this_machine(arguments.host):
        parser.error(f"--host {arguments.host} opens the service to others: set {TOKEN} to what they must send")
    if arguments.at_once < 1 or arguments.queue < 0 or not 0 < arguments.max_mb < math.inf:
        parser.error("--at-once and --max-mb must be positive, and --queue not negative")
    if not 0 <= arguments.port <= 65535:
        parser.error(f"--port is {arguments.port}; it must be from 0 to 65535")
    try:
        model = None if arguments.model == "auto" else Bundle.open(arguments.model)
    except SRFlowError as error:
        sys.exit(f"error: {error}")
    settings = Settings(
        at_once=arguments.at_once,
        queue=arguments.queue,
        max_bytes=int(arguments.max_mb * 1e6),
        token=token,
        model=model,
    )
    uvicorn.run(service(settings), host=arguments.host, port=arguments.port, timeout_graceful_shutdown=10)


def on_this_machine(host: str) -> bool:
    """Whether only programs of this machine reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    main()

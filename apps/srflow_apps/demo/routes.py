"""The page's routes, all that there are: what each takes, its limits, and how errors reach the page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import string
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srflow_apps.demo.sessions import TABS, Job, PageGoneError, Session, Sessions, delete_file, key_of, plain_name
from srflow_apps.demo.tabs import FORMATS, Said, Tabs
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError, SRFlowError
from srflow_sdk.model.manifest import INVERTER
from srflow_sdk.model.model_choice import needed
from srflow_sdk.system.raising import require_extra
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from starlette.requests import Request

_SAID_BYTES = 16_384
_MASK_BYTES = 4_000_000  # of 1024×1024 pixels without any compression
_PAUSE_S = 30.0  # between two pieces of a body
_LINGER_S, _LINGER_BYTES = 2.0, 4_000_000
_DRAWN_AT_A_TIME = 2
_ANOTHER = "another picture was chosen meanwhile"
_FOLDER = Path(__file__).parent
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".jpg": "image/jpeg"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """upload_bytes: of a file that is sent. pixels: of a picture, width × height."""

    upload_bytes: int
    pixels: int


class _RefusedError(Exception):
    """A request that gets a status of its own."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Routes:
    """Functions of requests. They return what is sent: None, a JSON object, or a response."""

    def __init__(self, upscaler: Upscaler, sessions: Sessions, limits: Limits) -> None:
        self._upscaler = upscaler
        self._sessions = sessions
        self._limits = limits
        self._tabs = Tabs(upscaler, sessions, max_pixels=limits.pixels)
        self._drawing = ThreadPoolExecutor(_DRAWN_AT_A_TIME, thread_name_prefix="srflow-demo-draw")
        self._turn = ThreadPoolExecutor(1, thread_name_prefix="srflow-demo-work")  # one at a time, for all pages
        self._flow = INVERTER in upscaler._painter.manifest.files
        self._pictures = {name: tab for name, tab in TABS.items() if self._flow or tab == "enlarge"}
        self._page = self._filled_page()
        self._assets = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    def application(self) -> Any:
        """The ASGI application: these routes and methods; anything else is 404 or 405."""
        routing = require_extra("starlette.routing", "demo")
        table: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
            ("GET", "/", self.page),
            ("GET", "/static/{name}", self.asset),
            ("POST", "/pages", self.open_page),
            ("POST", "/pages/{page}/alive", self.alive),
            ("POST", "/pages/{page}/close", self.close_page),
            ("PUT", "/pages/{page}/pictures/{name}", self.put_picture),
            ("DELETE", "/pages/{page}/pictures/{name}", self.delete_picture),
            ("POST", "/pages/{page}/show", self.show),
            ("POST", "/pages/{page}/samples", self.samples),
            ("GET", "/pages/{page}/canvas", self.canvas),
            ("POST", "/pages/{page}/work/{tab}", self.begin_work),
            ("GET", "/pages/{page}/work/{tab}", self.tell_work),
            ("DELETE", "/pages/{page}/work/{tab}", self.cancel_work),
            ("GET", "/pages/{page}/files/{key}", self.file),
        ]
        routes = [routing.Route(path, self._answered(handler), methods=[method]) for method, path, handler in table]
        return routing.Router(routes, redirect_slashes=False)

    def stop(self) -> None:
        """Begin nothing any more."""
        for threads in (self._drawing, self._turn):
            threads.shutdown(wait=False, cancel_futures=True)

    async def page(self, request: Request) -> Any:
        return _response(self._page, "text/html; charset=utf-8")

    async def asset(self, request: Request) -> Any:
        name = request.path_params["name"]
        if name not in self._assets:
            raise _RefusedError(404, "there is no such file")
        return _response(self._assets[name], _TYPES[Path(name).suffix])

    async def open_page(self, request: Request) -> Any:
        return {"page": self._sessions.open()[0]}

    async def alive(self, request: Request) -> None:
        self._sessions.heard(request.path_params["page"])

    async def close_page(self, request: Request) -> None:
        self._sessions.close(request.path_params["page"])

    async def put_picture(self, request: Request) -> Any:
        """Take a picture, whose body is the file and whose query is its name. An unfinished one of its place ends."""
        session, name = self._session(request), self._picture(request)
        number = session.sent[name] = session.sent.get(name, 0) + 1
        limit = _MASK_BYTES if name == "mask" else self._limits.upload_bytes
        path = session.new_file(plain_name(request.query_params.get("name", "")))
        if (older := session.receiving.get(name)) is not None:
            older.cancel()
        receiving = session.receiving[name] = asyncio.ensure_future(_received(request, limit, path))
        try:
            try:
                await receiving
            except asyncio.CancelledError:
                if session.sent[name] == number:  # the server ends
                    raise
                raise ArgumentError(_ANOTHER) from None
            session.strip.set()
            return await self._drawn(session, lambda: self._taken(session, name, path, number))
        except BaseException:
            if session.pictures.get(name) != path:
                delete_file(path)
            raise

    async def delete_picture(self, request: Request) -> None:
        session, name = self._session(request), self._picture(request)
        session.sent[name] = session.sent.get(name, 0) + 1
        session.strip.set()
        await self._drawn(session, lambda: session.put(name, None))

    async def show(self, request: Request) -> Any:
        session, said = self._session(request), await self._said(request)
        session.strip.set()
        return await self._drawn(session, lambda: self._tabs.show(session, said))

    async def samples(self, request: Request) -> Any:
        session, said = self._session(request), await self._said(request)
        session.strip.set()
        cancel = session.strip = threading.Event()
        return await self._drawn(session, lambda: self._tabs.samples(session, said, cancel))

    async def canvas(self, request: Request) -> Any:
        session = self._session(request)
        return await self._drawn(session, lambda: self._tabs.show_pictures(session))

    async def begin_work(self, request: Request) -> None:
        session, tab, said = self._session(request), self._tab(request), await self._said(request)
        begin = {"enlarge": self._tabs.render, "restore": self._tabs.restore, "transfer": self._tabs.transfer}[tab]

        def begun() -> None:
            with session.lock:
                target, write = begin(session, said)
                session.begin(tab, target, write, turn=self._turn)

        await self._drawn(session, begun)

    async def tell_work(self, request: Request) -> Any:
        session, tab = self._session(request), self._tab(request)
        job = session.jobs.get(tab)
        if job is None:
            return {"state": "cancelled"}
        told: dict[str, Any] = {"state": job.state, "fraction": job.fraction, "left_s": job.left_s}
        if job.state == "failed":
            told["error"] = _words(session, job.error)
        if job.state == "done":
            target = session.results[tab]
            told |= {"file": key_of(target), "name": target.name, "viewer": job.result}
        return told

    async def cancel_work(self, request: Request) -> None:
        job: Job | None = self._session(request).jobs.get(self._tab(request))
        if job is None or not job.runs:
            raise ArgumentError("nothing runs that could be cancelled")
        job.cancel()

    async def file(self, request: Request) -> Any:
        path = self._session(request).result(request.path_params["key"])
        if path is None:
            raise _RefusedError(404, "there is no such file")
        responses = require_extra("starlette.responses", "demo")
        return responses.FileResponse(path, media_type="application/octet-stream", filename=path.name)

    def _session(self, request: Request) -> Session:
        return self._sessions.get(request.path_params["page"])

    def _picture(self, request: Request) -> str:
        return _known(request.path_params["name"], self._pictures, "picture")

    def _tab(self, request: Request) -> str:
        return _known(request.path_params["tab"], self._pictures.values(), "tab")

    def _taken(self, session: Session, name: str, path: Path, number: int) -> Any:
        """Use a picture that came, the page's `number`th of this name, unless it sent another one meanwhile."""
        with session.lock:
            if session.sent[name] != number:
                raise ArgumentError(_ANOTHER)
            session.put(name, path)
            try:
                if name == "enlarge":
                    return self._tabs.open(session, path)
                if name != "mask":
                    self._tabs.check(path)
            except BaseException:
                session.put(name, None)
                raise
            return {}

    async def _said(self, request: Request) -> Said:
        """The JSON object in a request's body."""
        body = bytearray()
        async for piece in _pieces(request, _SAID_BYTES, "a request"):
            body += piece
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise _RefusedError(400, "the request is not a JSON object; load the page again")
        return said

    async def _drawn(self, session: Session, function: Callable[[], Any]) -> Any:
        """Call what draws or reads pictures in one of few threads, unless its page was closed meanwhile."""

        def drawn() -> Any:
            session.check_open()
            return function()

        return await asyncio.get_running_loop().run_in_executor(self._drawing, drawn)

    def _answered(self, handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Any]]:
        """A handler whose values and errors become responses."""
        gone: type[Exception] = require_extra("starlette.requests", "demo").ClientDisconnect

        async def answer(request: Request) -> Any:
            try:
                found = await handler(request)
            except gone:
                return _json({"error": "the request was cut off"}, 400)
            except _RefusedError as error:
                return _json({"error": str(error)}, error.status)
            except PageGoneError as error:
                return _json({"error": str(error)}, 410)
            except Exception as error:
                session = self._sessions.find(request.path_params.get("page", ""))
                return _json({"error": _words(session, error)}, 400 if isinstance(error, SRFlowError) else 500)
            return _json(found, 200) if found is None or isinstance(found, dict) else found

        return answer

    def _filled_page(self) -> bytes:
        manifest, bundles = self._upscaler._painter.manifest, self._upscaler._bundles
        names = [bundle.manifest.name for bundle in needed(bundles.values(), None)]
        values = {
            "models": " ".join(bundles),
            "model": names[0] if len(names) == 1 else f"{' or '.join(names)}, as suits each photo",
            "scale": self._upscaler.scale,
            "device": self._upscaler.device,
            "tau": manifest.default_tau,
            "auto": "data-auto" if manifest.auto_tau else "",
            "flow": "true" if self._flow else "false",
            "upload_bytes": self._limits.upload_bytes,
            "formats": " ".join(FORMATS),
            "version": __version__,
        }
        template = string.Template((_FOLDER / "page.html").read_text(encoding="utf-8"))
        return template.substitute({name: escape(str(value)) for name, value in values.items()}).encode()


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name not in names:
        raise _RefusedError(404, f"there is no such {what}")
    return name


async def _received(request: Request, limit: int, path: Path) -> None:
    with path.open("xb") as file:
        async for piece in _pieces(request, limit, path.name):
            file.write(piece)


async def _pieces(request: Request, limit: int, what: str) -> Any:
    """The pieces of a body. One that is too large or too slow is refused."""
    too_large = _RefusedError(413, f"{what} is larger than the limit of {limit / 1e6:g} MB; choose a smaller one")
    stated = request.headers.get("content-length", "0")
    pieces = request.stream().__aiter__()
    if not stated.isdigit() or int(stated) > limit:
        await _linger(pieces)
        raise too_large
    size = 0
    while True:
        try:
            piece = await asyncio.wait_for(pieces.__anext__(), _PAUSE_S)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise _RefusedError(408, f"nothing of {what} came for {_PAUSE_S:.0f} s; send it again") from None
        size += len(piece)
        if size > limit:
            await _linger(pieces)
            raise too_large
        yield piece


async def _linger(pieces: Any) -> None:
    """Drop a little of what still comes: a client that is cut off while it sends may not read why."""

    async def dropped() -> None:
        size = 0
        async for piece in pieces:
            size += len(piece)
            if size > _LINGER_BYTES:
                return

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(dropped(), _LINGER_S)


def _words(session: Session | None, error: BaseException | None) -> str:
    """An error as its page shows it."""
    if isinstance(error, SRFlowError):
        text = str(error)
    else:
        _log.error("the demo failed", exc_info=error)
        text = f"this is a fault of the demo ({type(error).__name__}: {error}); its terminal says more"
    return session.in_words(text) if session is not None else text


def _json(value: Any, status: int) -> Any:
    body = json.dumps(value, allow_nan=False).encode()
    return _response(body, "application/json", status)


def _response(body: bytes, media_type: str, status: int = 200) -> Any:
    return require_extra("starlette.responses", "demo").Response(body, status, media_type=media_type)

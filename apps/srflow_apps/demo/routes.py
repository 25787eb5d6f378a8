"""The page's routes, all that there are: what each takes, its limits, and how errors reach the
page.
"""

from __future__ import annotations

import asyncio
import json
import logging
import string
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srflow_apps.demo.sessions import TABS, RefusedError, Session, Sessions, delete_file, plain_name
from srflow_apps.demo.tabs import FORMATS, Tabs
from srflow_sdk import __version__
from srflow_sdk.errors import SRFlowError
from srflow_sdk.model.manifest import INVERTER
from srflow_sdk.upscaler import Upscaler

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_SAID_BYTES = 16_384
_LINGER_BYTES = 4_000_000
_PAGE = Path(__file__).parent / "page"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".jpg": "image/jpeg"}

_log = logging.getLogger(__name__)


class Routes:
    """Serve requests: functions of a page's session and its request. They return JSON values, or a
    file.

    upload_bytes: the most of a file that is sent. max_pixels: the most of a picture, width ×
        height.
    """

    def __init__(
        self, upscaler: Upscaler, sessions: Sessions, *, upload_bytes: int, max_pixels: int
    ) -> None:
        self._upscaler = upscaler
        self._sessions = sessions
        self._upload_bytes = upload_bytes
        self._tabs = Tabs(upscaler, max_pixels=max_pixels)
        self._drawing = ThreadPoolExecutor(2, thread_name_prefix="srflow-demo-draw")
        # one at a time, for all pages
        self._turn = ThreadPoolExecutor(1, thread_name_prefix="srflow-demo-work")
        self._here = TABS if INVERTER in upscaler.engine.painter.manifest.files else TABS[:1]

    def application(self) -> Any:
        """The ASGI application: these routes and methods; anything else is 404 or 405."""
        from starlette.responses import Response
        from starlette.routing import Route, Router

        fixed = {"/": Response(self._fill_page(), media_type="text/html")}
        for path in _PAGE.iterdir():
            if path.suffix in _TYPES:
                fixed[f"/static/{path.name}"] = Response(
                    path.read_bytes(), media_type=_TYPES[path.suffix]
                )

        table: list[tuple[str, str, Callable[[Any, Request], Any]]] = [
            ("POST", "", self.open_page),
            ("POST", "/{page}/alive", self.alive),
            ("POST", "/{page}/close", self.close_page),
            ("PUT", "/{page}/pictures/{tab}", self.put_picture),
            ("DELETE", "/{page}/pictures/{tab}", self.delete_picture),
            ("POST", "/{page}/show", self.show),
            ("POST", "/{page}/samples", self.samples),
            ("POST", "/{page}/work/{tab}", self.begin_work),
            ("GET", "/{page}/work/{tab}", self.tell_work),
            ("DELETE", "/{page}/work/{tab}", self.cancel_work),
            ("GET", "/{page}/files/{tab}", self.file),
        ]
        routes = [
            Route(f"/pages{path}", self._answer_with(handler), methods=[method])
            for method, path, handler in table
        ]
        routes += [Route(path, answer, methods=["GET"]) for path, answer in fixed.items()]
        return Router(routes, redirect_slashes=False)

    def _answer_with(
        self, handler: Callable[[Any, Request], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make a function of a page and its request a route, which answers its errors, too."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import FileResponse, JSONResponse

        async def answer(request: Request) -> Response:
            session = None
            try:
                if "page" in request.path_params:
                    session = self._sessions.get(request.path_params["page"])
                if request.path_params.get("tab", TABS[0]) not in self._here:
                    raise RefusedError(404, "there is no such tab")
                content = await handler(session, request)
            except ClientDisconnect:
                return JSONResponse({"error": "the request was cut off"}, 400)
            except Exception as error:
                status = getattr(error, "status", 400 if isinstance(error, SRFlowError) else 500)
                return JSONResponse({"error": _describe_error(session, error)}, status)
            if isinstance(content, Path):
                return FileResponse(
                    content, media_type="application/octet-stream", filename=content.name
                )
            return JSONResponse(content)

        return answer

    def stop(self) -> None:
        """Stop all work, and wait until it has ended."""
        self._sessions.stop()
        for threads in (self._drawing, self._turn):
            threads.shutdown(cancel_futures=True)

    async def open_page(self, _: None, request: Request) -> Any:
        return {"page": (await self._sessions.open())[0]}

    async def alive(self, session: Session, request: Request) -> None:
        """To be heard is all that there is to it."""

    async def close_page(self, session: Session, request: Request) -> None:
        await self._sessions.close(request.path_params["page"])

    async def put_picture(self, session: Session, request: Request) -> Any:
        """Take a picture, whose body is the file and whose query is its name. The page cuts off an
        older one that it still sends.
        """
        tab = request.path_params["tab"]
        path = session.new_file(plain_name(request.query_params.get("name", "")))
        session.samples.set()
        try:
            with path.open("xb") as file:
                async for piece in _read_pieces(request, self._upload_bytes, path.name):
                    file.write(piece)
            return await self._draw(session, self._tabs.take, session, tab, path)
        finally:
            if session.pictures.get(tab) != path:
                delete_file(path)

    async def delete_picture(self, session: Session, request: Request) -> None:
        session.samples.set()
        await self._draw(session, session.put, request.path_params["tab"], None)

    async def show(self, session: Session, request: Request) -> Any:
        message = await _read_message(request)
        session.samples.set()
        return await self._draw(session, self._tabs.show, session, message)

    async def samples(self, session: Session, request: Request) -> Any:
        message = await _read_message(request)
        session.samples.set()
        cancel = session.samples = threading.Event()
        return await self._draw(session, self._tabs.samples, session, message, cancel)

    async def begin_work(self, session: Session, request: Request) -> None:
        tab = request.path_params["tab"]
        message = await _read_message(request)
        await self._draw(session, self._tabs.begin, session, tab, message, self._turn)

    async def tell_work(self, session: Session, request: Request) -> Any:
        job = session.jobs.get(request.path_params["tab"])
        if job is None:
            return {"state": "cancelled"}
        answer: dict[str, Any] = {
            "state": job.state,
            "fraction": job.fraction,
            "left_s": job.left_s,
        }
        if job.state == "failed" and job.error is not None:
            answer["error"] = _describe_error(session, job.error)
        return {**answer, "name": job.target.name, "viewer": job.shown}

    async def cancel_work(self, session: Session, request: Request) -> None:
        if (job := session.jobs.get(request.path_params["tab"])) is not None:
            job.cancel()

    async def file(self, session: Session, request: Request) -> Path:
        job = session.jobs.get(request.path_params["tab"])
        if job is None or job.state != "done":
            raise RefusedError(404, "there is no such file")
        return job.target

    async def _draw(self, session: Session, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what draws or reads pictures in one of few threads, once nothing else of its page
        does, unless that was closed meanwhile.
        """
        async with session.lock:
            if session.closed:
                raise RefusedError(410, "the page was closed; load it again")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._drawing, function, *arguments)

    def _fill_page(self) -> str:
        manifest = self._upscaler.engine.painter.manifest
        models = list(self._upscaler.engine.bundles)
        values = {
            "models": " ".join(models),
            "model": f"Model {models[0]}, ×{manifest.scale}, on" if len(models) == 1 else "On",
            "device": self._upscaler.device,
            "scale": manifest.scale,
            "tau": manifest.default_tau,
            "auto": "data-auto" if manifest.auto_tau else "",
            "tabs": " ".join(self._here),
            "upload_bytes": self._upload_bytes,
            "formats": " ".join(FORMATS),
            "version": __version__,
        }
        template = string.Template((_PAGE / "page.html").read_text(encoding="utf-8"))
        return template.substitute({name: escape(str(value)) for name, value in values.items()})


async def _read_message(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body."""
    body = b"".join([piece async for piece in _read_pieces(request, _SAID_BYTES, "a request")])
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise RefusedError(400, "the request is not a JSON object; load the page again")
    return message


async def _read_pieces(request: Request, limit: int, what: str) -> AsyncIterator[bytes]:
    """The pieces of a body. One that is too large is refused.

    A little of what is too much is read and dropped: a client that is cut off while it sends may
        not read why.
    """
    stated = request.headers.get("content-length", "0")
    size = 0
    if stated.isdecimal() and int(stated) <= limit + _LINGER_BYTES:
        async for piece in request.stream():
            size += len(piece)
            if size > limit + _LINGER_BYTES:
                break
            if size <= limit:
                yield piece
        if size <= limit:
            return
    raise RefusedError(
        413, f"{what} is larger than the limit of {limit / 1e6:g} MB; choose a smaller one"
    )


def _describe_error(session: Session | None, error: BaseException) -> str:
    """An error as its page shows it."""
    text = str(error)
    if not isinstance(error, SRFlowError):
        _log.error("the demo failed", exc_info=error)
        text = (
            f"this is a fault of the demo ({type(error).__name__}: {error}); its terminal says more"
        )
    return session.in_words(text) if session is not None else text

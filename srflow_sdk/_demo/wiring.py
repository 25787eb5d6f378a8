"""Joins the page's functions to Gradio's events: each gets its page's session, and its errors reach the page."""

from __future__ import annotations

import contextlib
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from srflow_sdk._demo.sessions import Session, Sessions
from srflow_sdk.errors import SRFlowError

_log = logging.getLogger(__name__)


class Wiring:
    """Turns functions of (session, inputs…) into what Gradio calls. gradio: the module."""

    def __init__(self, gradio: ModuleType, sessions: Sessions) -> None:
        self._gradio = gradio
        self._sessions = sessions

    def joined(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A handler that calls function(session, *inputs), and may be a generator."""
        gradio = self._gradio

        def called(request: Any, *inputs: Any) -> Any:
            with self._shown_errors(request) as session:
                return function(session, *inputs)

        def generated(request: Any, *inputs: Any) -> Iterator[Any]:
            with self._shown_errors(request) as session:
                yield from function(session, *inputs)

        handler = generated if inspect.isgeneratorfunction(function) else called
        handler.__annotations__ = {"request": gradio.Request}
        handler.__name__ = function.__name__
        return handler

    def joined_to_event(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A handler that calls function(session, data, *inputs), where data is what the page's part sent."""

        def called(request: Any, event: Any, *inputs: Any) -> Any:
            with self._shown_errors(request) as session:
                data = event._data
                return function(session, data if isinstance(data, dict) else {}, *inputs)

        called.__annotations__ = {"request": self._gradio.Request, "event": self._gradio.EventData}
        called.__name__ = function.__name__
        return called

    def ended(self) -> Callable[..., None]:
        """A handler for pages that are closed or loaded again."""

        def end(request: Any) -> None:
            self._sessions.end(request.session_hash)

        end.__annotations__ = {"request": self._gradio.Request}
        return end

    @contextlib.contextmanager
    def _shown_errors(self, request: Any) -> Iterator[Session]:
        gradio = self._gradio
        try:
            session = self._sessions.get(request.session_hash)
        except SRFlowError as error:
            raise self._error(str(error)) from error
        try:
            yield session
        except (gradio.Error, GeneratorExit):
            raise
        except SRFlowError as error:
            raise self._error(session.in_words(str(error))) from error
        except Exception as error:
            _log.exception("the demo failed")
            what = f"this is a fault of the demo ({type(error).__name__}: {error}); its terminal says more"
            raise self._error(session.in_words(what)) from error

    def _error(self, message: str) -> Any:
        # Gradio shows it as HTML, and it may hold the name of a file.
        return self._gradio.Error(html.escape(message), duration=None, print_exception=False)

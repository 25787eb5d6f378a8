"""The plugins of a build: which library has them, or why flow operations become functions; and the line on it."""

from __future__ import annotations

from collections.abc import Callable

from srflow_export.engines._library import Library
from srflow_sdk._version import __version__
from srflow_sdk.backends.native_library import PLUGINS, check_native_library, find_native_library, load_plugins
from srflow_sdk.errors import ExportError
from srflow_sdk.model.engine_records import PluginLibrary
from srflow_sdk.system.local_files import file_sha256


def plugins_for(library: Library, *, nodes: int, rebuild: str, say: Callable[[str], None]) -> PluginLibrary | None:
    """Load the plugin library, if there is one (:func:`find_native_library`), before graphs are parsed.

    The parser takes a plugin only if its creator is registered by then, and inlines the node's function otherwise.
    nodes: how many there are in all graphs; without any, nothing is loaded or said. rebuild: as :func:`load_plugins`.
    Returns the library that the engines will need; None: their flow operations are functions.
    Raises: DeviceError or ExportError for a library that does not fit.
    """
    if not nodes:
        return None
    path, why = None, f"as {library.title} has no plugins"
    if library.runtime == "tensorrt":
        path = find_native_library(PLUGINS)
        why = "as there is no plugin library: python -m srflow_export.native tensorrt builds one (docs/native.md)"
    if path is None:
        say(f"flow operations: {nodes} functions in standard operators, {why}")
        return None
    native = check_native_library(path, version=__version__, variable=PLUGINS)
    if not hasattr(native, "srflow_tensorrt_major"):
        raise ExportError(f"{path} has no plugins for TensorRT: name a libsrflow_trt.so in {PLUGINS}")
    built_for, major = native.srflow_tensorrt_major(), library.version.partition(".")[0]
    if str(built_for) != major:
        raise ExportError(
            f"{path} is for TensorRT {built_for}, and {library.version} is installed: build it with the headers of "
            f"TensorRT {major} (python -m srflow_export.native tensorrt), or set {PLUGINS}= to do without plugins"
        )
    plugins = PluginLibrary(sha256=file_sha256(path), version=__version__, tensorrt_major=built_for)
    load_plugins(library.module, plugins, rebuild=rebuild)
    say(f"flow operations: {nodes} plugins of {path}, which the engines need wherever they run")
    return plugins

"""The page: its tabs, its controls, and which function each of them calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from srflow_sdk._demo import templates, work
from srflow_sdk._demo.controls import MAX_SEED
from srflow_sdk._demo.enlarging import RENDER, Enlarging
from srflow_sdk._demo.flow_uses import RESTORE, TRANSFER, FlowUses
from srflow_sdk._demo.sessions import Session, Sessions
from srflow_sdk._demo.templates import progress
from srflow_sdk._demo.wiring import Wiring
from srflow_sdk._version import __version__
from srflow_sdk.errors import ArgumentError
from srflow_sdk.manifest import INVERTER
from srflow_sdk.upscaler import Upscaler

FORMATS = ("png", "jpg", "webp", "tif")
_FOLDER = Path(__file__).parent
_FONTS = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")
_NEW_SEED = f"() => Math.floor(Math.random() * {MAX_SEED})"
_WITH_MASK = """
(photo, other, mask, ...rest) => [photo, other, document.querySelector(".sf-painter canvas").maskUrl(), ...rest]
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that can be served. blocks: of Gradio. theme, css: for serving it."""

    blocks: Any
    theme: Any
    css: str


def build(gradio: ModuleType, upscaler: Upscaler, sessions: Sessions, *, max_pixels: int) -> Page:
    """Build the page of a model. gradio: the module. max_pixels: of a photo, width × height."""
    wiring = Wiring(gradio, sessions)
    tabs = _Tabs(gradio, wiring, upscaler)
    name, scale = upscaler.bundle.manifest.name, upscaler.scale
    with gradio.Blocks(title="srflow-demo", analytics_enabled=False, fill_width=False) as blocks:
        gradio.Markdown(
            f"# srflow-demo\nModel {name}, ×{scale}, on {upscaler.device}. Your pictures stay on the machine that runs "
            "this page, and are deleted when you close it."
        )
        with gradio.Tab("Enlarge", elem_id="enlarge-tab"):
            tabs.enlarge(Enlarging(upscaler, sessions, max_pixels=max_pixels))
        uses = FlowUses(upscaler, max_pixels=max_pixels)
        if INVERTER in upscaler.bundle.manifest.files:
            with gradio.Tab("Restore", elem_id="restore-tab"):
                tabs.restore(uses)
            with gradio.Tab("Transfer", elem_id="transfer-tab"):
                tabs.transfer(uses)
        blocks.load(None, js=_asset("taking.js"))
        blocks.load(None, js=_asset("naming.js"))
        blocks.unload(wiring.ended())
        gradio.Markdown(f"srflow-sdk {__version__}")
    blocks.queue(max_size=64)
    theme = gradio.themes.Default(font=list(_FONTS), font_mono=list(_MONO))
    return Page(blocks=blocks, theme=theme, css=_asset("page.css"))


class _Tabs:
    """Fills the tabs."""

    def __init__(self, gradio: ModuleType, wiring: Wiring, upscaler: Upscaler) -> None:
        self._gr = gradio
        self._wiring = wiring
        self._upscaler = upscaler

    def enlarge(self, enlarging: Enlarging) -> None:
        gr, joined = self._gr, self._wiring.joined
        manifest = self._upscaler.bundle.manifest
        sides = [(f"{side} × {side}", side) for side in (256, 512)]
        with gr.Row(elem_classes=["sf-row"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["sf-left"]):
                photo = self._photo("Photo: drop, paste or click")
                overview = self._part(templates.OVERVIEW, "overview.js", "sf-first")
                tau = gr.Slider(
                    0, 1, value=manifest.default_tau, step=0.01, label="Temperature τ", info="0 smooth, 1 most texture"
                )
                auto = gr.Checkbox(
                    value=manifest.auto_tau, label="auto τ", info="less on text and flat areas; the slider turns it off"
                )
                with gr.Row():
                    seed = gr.Number(value=0, label="Seed", min_width=100)
                    another = gr.Button("Another seed", min_width=100)
                side = gr.Radio(sides, value=256, label="Size of the crop that is shown, enlarged")
            with gr.Column(scale=2, min_width=300, elem_classes=["sf-right"]):
                viewer = self._viewer("Choose a photo. It is encoded once; then the picture follows τ and the seed.")
                strip = self._part(templates.STRIP, "strip.js")
                format, start, stop, status, file = self._render("Render the whole photo", RENDER)
        controls = [tau, auto, seed, side]
        live = {
            "concurrency_id": "live",
            "concurrency_limit": 2,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        last = {**live, "trigger_mode": "always_last"}
        everything = [viewer, overview, strip]
        opened = gr.on([photo.upload, photo.clear], joined(enlarging.open), [photo, *controls], everything, **last)
        opened.failure(lambda: ("", "", ""), None, everything, **live)
        slid = tau.input(joined(enlarging.slide), controls, [viewer, auto], **last)
        drawn = gr.on([auto.input, seed.change], joined(enlarging.draw), controls, viewer, **last)
        moved = side.input(joined(enlarging.move), controls, everything, **last)
        placed = overview.select(self._wiring.joined_to_event(enlarging.place), controls, everything, **last)
        strip.select(self._wiring.joined_to_event(enlarging.choose), controls, [viewer, strip], **last)
        another.click(None, None, seed, js=_NEW_SEED, **live)

        def eight(session: Session, *values: Any) -> tuple[Any, ...]:
            shown = enlarging.eight(session, *values) or (None, None, None)
            return tuple(gr.skip() if value is None else value for value in shown)

        for event in (opened, slid, drawn, moved, placed):
            event.success(joined(eight), controls, everything, **live)
        self._withdraw([photo], status, file)
        self._work(start, stop, enlarging.render, [format, *controls], [status, file], RENDER)

    def restore(self, uses: FlowUses) -> None:
        gr = self._gr
        with gr.Row(elem_classes=["sf-row"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["sf-left"]):
                picture = self._photo("Noisy picture: drop, paste or click")
                over = gr.Radio(
                    [
                        ("as the picture needs", "auto"),
                        ("noise everywhere", "spatial"),
                        ("dots and scratches", "local"),
                    ],
                    value="auto",
                    label="Remove",
                )
                choose = gr.Checkbox(value=False, label="Choose the strength", info="otherwise as measured")
                tau = gr.Slider(0, 2, value=1.0, step=0.05, label="Largest size of latents", info="less is smoother")
            with gr.Column(scale=2, min_width=300, elem_classes=["sf-right"]):
                viewer = self._viewer("Choose a picture with noise, dots or scratches, and restore it.", spread=False)
                format, start, stop, status, file = self._render("Restore", RESTORE)
        self._withdraw([picture], status, file)
        inputs = [picture, over, choose, tau, format]
        self._work(start, stop, uses.restore, inputs, [status, file, viewer], RESTORE)

    def transfer(self, uses: FlowUses) -> None:
        gr, joined = self._gr, self._wiring.joined
        with gr.Row(elem_classes=["sf-row"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["sf-left"]):
                photo = self._photo("Photo: drop, paste or click")
                other = self._photo("Other picture: drop or click", pasted=False)
                blend = gr.Radio(
                    [("fit brightness and colour", "gradient"), ("none, as published", "none")],
                    value="gradient",
                    label="Blend",
                )
                seed = gr.Number(value=0, label="Seed")
            with gr.Column(scale=2, min_width=300, elem_classes=["sf-right"]):
                mask = self._part(templates.MASK, "mask.js", "sf-second")
                drawn = gr.Textbox(visible=False)
                format, start, stop, status, file = self._render("Transfer", TRANSFER)
                viewer = self._viewer(
                    "The photo with the other picture's content appears here.", spread=False, order=""
                )
        gr.on(
            [photo.upload, photo.clear, other.upload, other.clear],
            joined(uses.show_pictures),
            [photo, other],
            mask,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        self._withdraw([photo, other], status, file)
        inputs = [photo, other, drawn, blend, seed, format]
        self._work(start, stop, uses.transfer, inputs, [status, file, viewer], TRANSFER, js=_WITH_MASK)

    def _photo(self, label: str, *, pasted: bool = True) -> Any:
        classes = ["sf-first", "sf-photo", *(["sf-pasted"] if pasted else [])]
        photo = self._gr.File(label=label, file_count="single", height=130, elem_classes=classes)

        def sent(session: Session, uploaded: str | None) -> None:
            if uploaded is not None:
                session.uploads.add(Path(uploaded))  # so that it goes with the page even if nothing is made of it

        photo.upload(
            self._wiring.joined(sent), photo, None, queue=False, show_progress="hidden", api_visibility="private"
        )
        return photo

    def _viewer(self, empty: str, *, spread: bool = True, order: str = "sf-second") -> Any:
        button = templates.SPREAD_BUTTON if spread else ""
        return self._part(templates.VIEWER.format(spread=button, empty=empty), "viewer.js", order)

    def _part(self, template: str, script: str, *classes: str) -> Any:
        return self._gr.HTML(
            value="",
            html_template=template,
            js_on_load=_asset(script),
            apply_default_css=False,
            elem_classes=list(classes),
        )

    def _render(self, label: str, name: str) -> tuple[Any, ...]:
        """The controls of long work: format, start, stop, how far it is, and the file."""
        gr = self._gr
        with gr.Row():
            format = gr.Dropdown(list(FORMATS), value="png", label="File", min_width=130, scale=0, filterable=False)
            start = gr.Button(label, variant="primary", min_width=120, elem_id=f"{name}-start")
            stop = gr.Button("Cancel", variant="stop", min_width=90, interactive=False, elem_id=f"{name}-stop")
        status = gr.HTML(value="", elem_id=f"{name}-status")
        file = gr.DownloadButton("Download", visible=False, elem_id=f"{name}-file")
        return format, start, stop, status, file

    def _withdraw(self, photos: list[Any], status: Any, file: Any) -> None:
        """Offer a file no longer once another photo is chosen."""
        gr = self._gr
        events = [event for photo in photos for event in (photo.upload, photo.clear)]

        def withdrawn() -> tuple[str, Any]:
            return "", gr.DownloadButton(value=None, visible=False)

        gr.on(events, withdrawn, None, [status, file], queue=False, show_progress="hidden", api_visibility="private")

    def _work(
        self,
        start: Any,
        stop: Any,
        function: Callable[..., Any],
        inputs: list[Any],
        outputs: list[Any],
        name: str,
        **keywords: Any,
    ) -> None:
        """Join long work to its buttons. Its outputs are how far it is, the file, and more if it gives more."""
        gr, joined = self._gr, self._wiring.joined
        private = {"show_progress": "hidden", "api_visibility": "private"}

        def cancelled(session: Session) -> None:
            if not work.cancel(session, name):
                raise ArgumentError("nothing runs that could be cancelled")

        def steps(session: Session, *values: Any) -> Iterator[tuple[Any, ...]]:
            for words, file, *rest in function(session, *values):
                button = gr.DownloadButton(value=file, visible=file is not None)
                yield (words, button, *(value or gr.skip() for value in rest))

        def begun(session: Session) -> tuple[Any, str]:
            return gr.Button(interactive=True), progress(0, "waiting for other work")

        queued = {"concurrency_id": "work", "concurrency_limit": 1}
        started = start.click(joined(begun), None, [stop, outputs[0]], **private)
        done = started.success(joined(steps), inputs, outputs, **queued, **private, **keywords)
        done.success(lambda: gr.Button(interactive=False), None, stop, **private)
        done.failure(lambda: (gr.Button(interactive=False), ""), None, [stop, outputs[0]], **private)
        stop.click(joined(cancelled), None, None, queue=False, **private)


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")

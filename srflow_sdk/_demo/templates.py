"""HTML of the page's own parts, whose behaviour is in the .js files beside this one."""

from __future__ import annotations

import html

VIEWER = """
<div class="sf-viewer">
  <div class="sf-bar" role="toolbar" aria-label="How the picture is shown">
    <button type="button" data-mode="compare">Compare</button>
    <button type="button" data-mode="side">Side by side</button>
    {spread}
    <span class="sf-space"></span>
    <span class="sf-zooming">
      <button type="button" class="sf-out" aria-label="Zoom out">−</button>
      <span class="sf-zoom" aria-live="polite">100 %</span>
      <button type="button" class="sf-in" aria-label="Zoom in">+</button>
      <button type="button" class="sf-fit">Fit</button>
    </span>
  </div>
  <p class="sf-empty">{empty}</p>
  <p class="sf-wait" role="status" hidden>The deviation appears once eight samples are drawn.</p>
  <div class="sf-panes" hidden>
    <figure class="sf-pane">
      <figcaption></figcaption>
      <div class="sf-view" tabindex="0" role="group">
        <div class="sf-layer"><img alt="" draggable="false"></div>
        <div class="sf-layer"><img alt="" draggable="false"></div>
        <div class="sf-divider" aria-hidden="true"></div>
      </div>
    </figure>
    <figure class="sf-pane" hidden>
      <figcaption></figcaption>
      <div class="sf-view" tabindex="0" role="group"><div class="sf-layer"><img alt="" draggable="false"></div></div>
    </figure>
  </div>
  <label class="sf-slide" hidden>Divider <input type="range" min="0" max="100" value="50"></label>
  <p class="sf-note" role="status"></p>
</div>
"""
SPREAD_BUTTON = '<button type="button" data-mode="spread">Uncertainty</button>'
STRIP = '<div class="sf-strip" role="group" aria-label="Eight samples; choose one"></div>'
OVERVIEW = """
<div class="sf-chooser" hidden>
  <div class="sf-overview" tabindex="0" role="group" aria-label="Which part of the photo is shown; arrow keys move it">
    <img alt="the whole photo" draggable="false"><div class="sf-frame"></div>
  </div>
  <p class="sf-where" role="status"></p>
</div>
"""
MASK = """
<p class="sf-empty">Choose both pictures; then paint here what the other one gives.</p>
<div class="sf-painter" hidden>
  <div class="sf-bar" role="toolbar" aria-label="Brush">
    <label>Brush <input type="range" min="2" max="60" value="16" aria-label="Size of the brush"></label>
    <button type="button" class="sf-erase" aria-pressed="false">Erase</button>
    <button type="button" class="sf-beneath" aria-pressed="false">See the photo beneath</button>
    <button type="button" class="sf-clear">Clear</button>
  </div>
  <canvas tabindex="0" role="img"
    aria-label="Mask: paint with a pointer, or move with the arrow keys and paint with the space bar"></canvas>
</div>
"""

CANCELLED = '<div class="sf-progress" role="status">Cancelled; nothing was written.</div>'


def progress(fraction: float, words: str) -> str:
    """A bar and words that say how far work is."""
    percent = round(100 * fraction)
    words = html.escape(words)  # the name of a file is in them
    return (
        f'<div class="sf-progress" role="status"><progress max="100" value="{percent}" aria-label="done">'
        f"</progress> <span>{words}</span></div>"
    )

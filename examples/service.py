"""A web service: POST a photo, get it enlarged. One photo is drawn at a time, and others wait for
their turn.

    pip install . fastapi uvicorn
    uvicorn --app-dir examples service:app
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/upscale?tau=0.8&seed=1' -o large.png

It has no token and no limit of an upload's size: where strangers reach it, put a proxy with both
before it.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response

from srflow_sdk import AsyncUpscaler, SRFlowError


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncUpscaler(at_once=1) as app.state.upscaler:  # the models are loaded once
        yield


app = FastAPI(title="SRFlow", lifespan=life)


@app.post("/upscale")
async def upscale(request: Request, tau: float | None = None, seed: int = 0) -> Response:
    """Enlarge the photo in the body, of any format that the SDK reads."""
    file = io.BytesIO()
    try:
        large = await app.state.upscaler.upscale(await request.body(), tau=tau, seed=seed)
    except SRFlowError as error:
        raise HTTPException(422, str(error)) from error
    large.save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png")

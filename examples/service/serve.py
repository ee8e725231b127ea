"""Serve propagation over HTTP: upload a video, mark an object, and receive its masks as they are made.

python examples/service/serve.py --port 8000
curl -F file=@horse.mp4 http://127.0.0.1:8000/videos                                 # answers {"id": "ID", ...}
curl --json '{"box": [210, 80, 420, 310]}' http://127.0.0.1:8000/videos/ID/mask -o mask.png
curl -N -X POST http://127.0.0.1:8000/videos/ID/propagate                            # a line of JSON for each frame

http://127.0.0.1:8000/docs describes every request.
"""

import argparse
import base64
import json
import shutil
import tempfile
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Lock, Semaphore
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

import siammae
from siammae.labels import to_image


class Prompt(BaseModel):
    """Marks on one object of one frame: a box, clicks, or both. Places are (x, y) in pixels."""

    frame: int = Field(0, ge=0)
    box: tuple[float, float, float, float] | None = None
    points: list[tuple[float, float]] | None = None
    labels: list[int] | None = None


@dataclass
class Video:
    """An uploaded video, and the mask of one of its frames once something was marked."""

    path: Path
    frame: int = 0
    mask: object = None


def png(ids):
    """Return ids [H, W] as the bytes of an indexed PNG."""
    data = BytesIO()
    to_image(ids).save(data, format="PNG")
    return data.getvalue()


def create_app(model="vitt8d6", size=None, most_bytes=200_000_000, most_videos=20, most_at_once=1):
    """Return the app. All requests share one model: an Encoder is safe in threads, a LabelPropagator belongs to one request."""
    encoder = siammae.load_model(model)
    videos, lock, turns = OrderedDict(), Lock(), Semaphore(most_at_once)
    folder = Path(tempfile.mkdtemp(prefix="siammae-serve-"))

    @asynccontextmanager
    async def lifespan(_):
        yield
        shutil.rmtree(folder, ignore_errors=True)

    app = FastAPI(title="siammae", version=siammae.__version__, lifespan=lifespan)

    @app.exception_handler(ValueError)
    async def refuse(_: Request, error: ValueError):
        return JSONResponse({"detail": str(error).replace(str(folder), "")}, status_code=422)

    def find(key):
        with lock:
            if key not in videos:
                raise HTTPException(404, f"there is no video {key}; upload it first, and again if many came after it")
            return videos[key]

    @app.post("/videos", status_code=201)
    def upload(file: UploadFile):
        """Keep a video for later requests; the oldest ones make room for it."""
        path = folder / f"{uuid4().hex}{Path(file.filename or '').suffix.lower()}"
        try:
            with path.open("wb") as target:
                while block := file.file.read(1 << 20):
                    if target.tell() + len(block) > most_bytes:
                        raise HTTPException(413, f"the file is larger than {most_bytes} bytes; send a shorter or smaller video")
                    target.write(block)
            frames = siammae.read_frames(path)
            height, width = frames[0].shape[-2:]
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        with lock:
            videos[path.stem] = Video(path)
            while len(videos) > most_videos:
                videos.popitem(last=False)[1].path.unlink(missing_ok=True)
        return {"id": path.stem, "height": height, "width": width, "fps": frames.fps}

    @app.post("/videos/{key}/mask")
    def mark(key: str, prompt: Prompt):
        """Fit a mask to the marks, keep it, and return it as a PNG."""
        video = find(key)
        frame = siammae.read_frames(video.path)[prompt.frame]
        mask = siammae.segment(frame, box=prompt.box, points=prompt.points, labels=prompt.labels, model=encoder, size=size)
        video.frame, video.mask = prompt.frame, mask
        return Response(png(mask), media_type="image/png")

    @app.post("/videos/{key}/propagate")
    def propagate(key: str):
        """Stream a line of JSON for each frame from the marked one on: its number, the objects and the mask as a PNG."""
        video = find(key)
        if video.mask is None:
            raise HTTPException(409, f"no object of video {key} is marked; send a box or clicks to /videos/{key}/mask first")
        return StreamingResponse(lines(video.path, video.frame, video.mask), media_type="application/x-ndjson")

    def lines(path, start, mask):
        with turns:  # the others wait; when a client leaves, its generator is closed, and the next has its turn
            frames = siammae.read_frames(path)[start:]
            propagator = None
            for number, frame in enumerate(frames, start):
                if propagator is None:
                    propagator = siammae.LabelPropagator(frame, mask, encoder, size=size)
                    ids = mask
                else:
                    ids = propagator.step(frame)
                scores = propagator.scores
                objects = [
                    {"id": label, "score": round(float(score), 4), "lost": bool(lost)}
                    for label, score, lost in zip(scores.ids, scores.score, scores.lost, strict=True)
                ]
                line = {"frame": number, "objects": objects, "png": base64.b64encode(png(ids)).decode()}
                yield json.dumps(line) + "\n"

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on; 0.0.0.0 serves all networks")
    parser.add_argument("--port", type=int, default=8000, help="port to serve on")
    parser.add_argument("--model", default="vitt8d6")
    parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
    args = parser.parse_args()
    uvicorn.run(create_app(args.model, args.size), host=args.host, port=args.port)

"""The addresses of the app: what the page asks, and the answers.

A project's address holds its id, which cannot be guessed: who knows it may use the project.
"""

import io
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from siammae.app import upload
from siammae.app.downloads import export
from siammae.app.edits import apply_edit
from siammae.app.insight import attention, feature_colors
from siammae.app.job import SessionEnded
from siammae.app.palette import COLORS
from siammae.app.session import Session
from siammae.app.sessions import Sessions
from siammae.app.state import frame_state, state_of
from siammae.labels.masks import as_mask
from siammae.synthetic.pond import render_clip
from siammae.video.encode import write_video
from siammae.video.pictures import read_image

STATIC = Path(__file__).parent / "static"
MAX_BODY = 4 << 20  # bytes of a request that is not a video
MAX_MASK = 64 << 20  # bytes of a mask

Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """The answers to the page's requests.

    Args:
        sessions: the open projects.
        uploads: folder for files that arrive.
        example: where the example clip is written when somebody asks for it.
    """

    def __init__(self, sessions: Sessions, uploads: Path, example: Path) -> None:
        self.sessions, self.uploads, self.example = sessions, uploads, example

    def list(self) -> list[Route | Mount]:
        """Return the routes of the app."""
        at, post, get = "/api/projects/{key}", ["POST"], ["GET"]
        return [
            Route("/", self.page),
            Route("/api/about", self.about),
            Route("/api/projects", answered(self.upload), methods=post),
            Route("/api/example", answered(self.take_example), methods=post),
            Route(at, answered(self.state), methods=get),
            Route(at, answered(self.close), methods=["DELETE"]),
            Route(at + "/edit", answered(self.edit), methods=post),
            Route(at + "/propagate", answered(self.propagate), methods=post),
            Route(at + "/stop", answered(self.stop), methods=post),
            Route(at + "/frames/{index:int}.jpg", answered(self.frame), methods=get),
            Route(at + "/frames/{index:int}", answered(self.labels), methods=get),
            Route(at + "/frames/{index:int}/prepare", answered(self.prepare), methods=post),
            Route(at + "/frames/{index:int}/mask", answered(self.load_mask), methods=post),
            Route(at + "/frames/{index:int}/{view:str}.png", answered(self.insight), methods=get),
            Route(at + "/files/{name}", answered(self.download), methods=get),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    async def about(self, request: Request) -> Response:
        """Return what the page needs before a video is open."""
        projects = await run_in_threadpool(self.sessions.projects)
        return JSONResponse(
            {
                "model": self.sessions.encoder.name,
                "colors": ["#{:02x}{:02x}{:02x}".format(*color) for color in COLORS],
                "suffixes": upload.SUFFIXES,
                "maxBytes": upload.MAX_BYTES,
                "kept": self.sessions.keep,
                "projects": projects,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a video as the body; its name stands in the header `X-Name`, percent-encoded."""
        name = Path(unquote(request.headers.get("x-name", "video"))).name
        suffix = Path(name).suffix.lower()
        draft = self.uploads / f"{secrets.token_hex(16)}{suffix if suffix in upload.SUFFIXES else '.unknown'}"
        try:
            with open(draft, "xb") as file:
                async for chunk in request.stream():
                    if file.tell() + len(chunk) > upload.MAX_BYTES:
                        raise ValueError(f"the file is larger than {upload.MAX_BYTES >> 20} MiB, the most that the app takes")
                    await run_in_threadpool(file.write, chunk)
            key, session = await run_in_threadpool(self.sessions.create, draft, name=name, move=True)
        finally:
            draft.unlink(missing_ok=True)
        return await run_in_threadpool(_state, session, key)

    async def take_example(self, request: Request) -> Response:
        def create() -> Response:
            if not self.example.exists():
                clip = render_clip(36)
                write_video(self.example, clip.frames, clip.fps)
            key, session = self.sessions.create(self.example, name="example.mp4")
            return _state(session, key)

        return await run_in_threadpool(create)

    async def state(self, request: Request) -> Response:
        return await run_in_threadpool(lambda: _state(self._session(request), request.path_params["key"]))

    async def close(self, request: Request) -> Response:
        await run_in_threadpool(self.sessions.close, request.path_params["key"], remove="remove" in request.query_params)
        return JSONResponse({})

    async def edit(self, request: Request) -> Response:
        """Make one change, which the body names: {"do": ..., and its arguments}; see `apply_edit`."""
        wish = await _json(request)

        def apply() -> Response:
            session = self._session(request)
            change = apply_edit(session, wish)
            frames = sorted({index for kind, index in change if kind in ("mask", "points", "prompts")})
            return _state(session, request.path_params["key"], {"touched": frames})

        return await run_in_threadpool(apply)

    async def propagate(self, request: Request) -> Response:
        def start() -> Response:
            session = self._session(request)
            session.start()
            return _state(session, request.path_params["key"])

        return await run_in_threadpool(start)

    async def stop(self, request: Request) -> Response:
        def stop() -> Response:
            session = self._session(request)
            session.stop()
            return _state(session, request.path_params["key"])

        return await run_in_threadpool(stop)

    async def frame(self, request: Request) -> Response:
        data = await run_in_threadpool(lambda: self._session(request).jpeg(request.path_params["index"]))
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def labels(self, request: Request) -> Response:
        values = await run_in_threadpool(lambda: frame_state(self._session(request), request.path_params["index"]))
        return JSONResponse(values)

    async def prepare(self, request: Request) -> Response:
        await run_in_threadpool(lambda: self._session(request).prepare(request.path_params["index"]))
        return JSONResponse({})

    async def load_mask(self, request: Request) -> Response:
        """Take an indexed or grey picture as the labels of a frame."""
        data = await _body(request, MAX_MASK)

        def load() -> Response:
            session = self._session(request)
            ids = as_mask(read_image(io.BytesIO(data), "the mask"), empty=True).values
            session.set_mask(request.path_params["index"], ids)
            return _state(session, request.path_params["key"])

        return await run_in_threadpool(load)

    async def insight(self, request: Request) -> Response:
        view = {"attention": attention, "features": feature_colors}.get(request.path_params["view"])
        if view is None:
            raise ValueError("there is no such view; expected attention or features")

        def draw() -> Response:
            data = io.BytesIO()
            Image.fromarray(view(self._session(request), request.path_params["index"])).save(data, "PNG")
            return Response(data.getvalue(), media_type="image/png")

        return await run_in_threadpool(draw)

    async def download(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = await run_in_threadpool(lambda: export(self._session(request), name))
        return FileResponse(path, filename=name)

    def _session(self, request: Request) -> Session:
        return self.sessions.get(request.path_params["key"])


def answered(handler: Handler) -> Handler:
    """Answer what a person can set right with one line, {"error": ...}; other errors end in the terminal."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except SessionEnded as error:
            return JSONResponse({"error": str(error)}, 410)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)

    return answer


def _state(session: Session, key: str, more: dict[str, Any] | None = None) -> Response:
    return JSONResponse({"id": key, **state_of(session), **(more or {})})


async def _body(request: Request, most: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise ValueError(f"the request is larger than {most >> 20} MiB")
    return bytes(data)


async def _json(request: Request) -> dict[str, Any]:
    values = json.loads(await _body(request, MAX_BODY))
    if not isinstance(values, dict):
        raise ValueError('expected an object with the entry "do"')
    return values

"""The page of `siammae app`: 1 video, 2 label, 3 propagate, 4 look, correct and download.

`Handlers` answers the events of the components in `Layout`, and `wire` connects the two.
"""

import base64
import io
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from siammae.app.cached import CachedEncoder, warm_up
from siammae.app.downloads import export
from siammae.app.layout import CSS, Layout
from siammae.app.session import NUM_OBJECTS, Picture, Session
from siammae.app.upload import MAX_BYTES
from siammae.encoder import Encoder
from siammae.geometry import InputSize
from siammae.synthetic.pond import render_clip
from siammae.video.encode import write_video

SECONDS_BETWEEN_PREVIEWS = 0.2

SHOW_LABELLING = "() => document.getElementById('labelling').scrollIntoView({ behavior: 'smooth' })"


def serve(encoder: Encoder, *, size: InputSize, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C, then remove all its files."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    encoder = CachedEncoder(encoder)
    warm_up(encoder)
    with tempfile.TemporaryDirectory(prefix="siammae-app-") as root:
        os.environ["GRADIO_TEMP_DIR"] = f"{root}/uploads"
        page = build(encoder, size, Path(root))
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            ssr_mode=False,
            prevent_thread_lock=True,
            max_file_size=MAX_BYTES,
            footer_links=[],
            run_history=False,
            css=CSS,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )
        print(f"siammae app with {encoder.name}: http://{host}:{port} (Ctrl-C ends it)", flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def build(encoder: Encoder, size: InputSize, root: Path) -> gr.Blocks:
    """Build the page; sessions and the example clip live in `root`."""
    (root / "sessions").mkdir()
    page: gr.Blocks = gr.Blocks(title="siammae", analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        layout = Layout(encoder.name)
        page.load(lambda: Session(encoder, size=size, root=root / "sessions"), outputs=layout.session)
        wire(layout, Handlers(layout, root / "example.mp4"))
    return page


class Handlers:
    """The answers to the events of the page: each takes the session and values of components, and returns new values."""

    def __init__(self, layout: Layout, example: Path) -> None:
        self.layout, self.example = layout, example

    def open_video(self, session: Session, path: Path) -> Iterator[Any]:
        layout = self.layout
        with errors_on_page():
            for count in session.open(path):
                if count % 25 == 1:
                    yield {layout.opened: f"Reading: {count} frames"}
        height, width = session.frame_size
        slider = gr.Slider(value=0, maximum=max(session.num_frames - 1, 1))
        yield {
            layout.opened: f"{session.num_frames} frames of {width} x {height} pixels, {session.fps:.4g} a second",
            layout.file: None,
            layout.work: gr.Column(visible=True),
            layout.results: gr.Column(visible=False),
            layout.frame: slider,
            layout.result_frame: slider,
            layout.canvas: canvas_of(session, 0),
            layout.anchors: anchors_of(session),
            layout.progress: "",
        }

    def upload(self, session: Session, path: str) -> Iterator[Any]:
        try:
            yield from self.open_video(session, Path(path))
        finally:
            Path(path).unlink(missing_ok=True)

    def take_example(self, session: Session) -> Iterator[Any]:
        if not self.example.exists():
            yield {self.layout.opened: "Rendering the example clip"}
            clip = render_clip(36)
            write_video(self.example, clip.frames, clip.fps)
        yield from self.open_video(session, self.example)

    def prepare(self, session: Session, index: int) -> None:
        with errors_on_page():
            session.prepare(int(index))

    def show(self, session: Session, index: int) -> Any:
        with errors_on_page():
            return canvas_of(session, int(index))

    def draw(self, session: Session, index: int, tool: Any, number: str, width: float, event: gr.EventData) -> Any:
        with errors_on_page():
            session.draw(int(index), tool, event.path, int(number), width)
            next_number = str(int(number) % NUM_OBJECTS + 1) if tool == "Points" else number
            return canvas_of(session, int(index)), anchors_of(session), next_number

    def undo(self, session: Session, index: int) -> Any:
        session.undo(int(index))
        return self.show(session, index), anchors_of(session)

    def discard(self, session: Session, index: int) -> Any:
        session.discard(int(index))
        return self.show(session, index), anchors_of(session)

    def propagate(self, session: Session, tool: str) -> Iterator[Any]:
        layout = self.layout
        started = shown_at = time.monotonic()
        what, count, index = ("points" if tool == "Points" else "masks"), 0, 0
        yield {layout.run: gr.Button(interactive=False), layout.progress: "Starting", layout.downloads: gr.Files(visible=False)}
        try:
            with errors_on_page():
                for count, index in enumerate(session.propagate(what), 1):  # type: ignore[arg-type]
                    now = time.monotonic()
                    if count <= 2 or now - shown_at > SECONDS_BETWEEN_PREVIEWS:
                        shown_at = now
                        pace = f"{(now - started) / count:.2f} s a frame"
                        yield {
                            layout.results: gr.Column(visible=True),
                            layout.progress: f"{count} frames done, of at most {session.num_frames}; {pace}",
                            layout.result_frame: index,
                            layout.result: html_of(session.picture(index)),
                        }
        finally:
            seconds = time.monotonic() - started
            yield {
                layout.run: gr.Button(interactive=True),
                layout.progress: f"Done: {count} frames in {seconds:.1f} s, {seconds / max(count, 1):.2f} s a frame",
                layout.result_frame: index,
                layout.result: html_of(session.picture(index)),
            }

    def show_result(self, session: Session, index: int) -> str:
        return html_of(session.picture(int(index)))

    def correct(self, session: Session, index: int) -> Any:
        return index, self.show(session, index)

    def make_files(self, session: Session) -> Any:
        with errors_on_page():
            return gr.Files([str(path) for path in export(session)], visible=True)

    def show_attention(self, session: Session, index: int) -> str:
        with errors_on_page():
            return html_of(session.attention(int(index)))

    def show_colors(self, session: Session, index: int) -> str:
        with errors_on_page():
            return html_of(session.feature_colors(int(index)))


def wire(layout: Layout, handlers: Handlers) -> None:
    """Connect the events of the page with their handlers."""
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    latest: dict[str, Any] = {**quiet, "trigger_mode": "always_last"}
    session, frame, canvas, anchors = layout.session, layout.frame, layout.canvas, layout.anchors
    opened = [
        layout.opened,
        layout.file,
        layout.work,
        layout.results,
        frame,
        layout.result_frame,
        canvas,
        anchors,
        layout.progress,
    ]
    for event in (
        layout.file.upload(handlers.upload, [session, layout.file], opened),
        layout.example.click(handlers.take_example, session, opened),
    ):
        event.success(handlers.prepare, [session, frame], **quiet)

    frame.input(handlers.show, [session, frame], canvas, **latest)
    frame.release(handlers.prepare, [session, frame], **latest)
    stroke = [session, frame, layout.tool, layout.number, layout.width]
    canvas.submit(handlers.draw, stroke, [canvas, anchors, layout.number], **quiet, trigger_mode="multiple")
    layout.undo.click(handlers.undo, [session, frame], [canvas, anchors], **quiet)
    layout.discard.click(handlers.discard, [session, frame], [canvas, anchors], **quiet)

    running = [layout.run, layout.progress, layout.results, layout.result_frame, layout.result, layout.downloads]
    layout.run.click(handlers.propagate, [session, layout.tool], running, **quiet)
    layout.stop.click(Session.stop, session, **quiet)

    looking = [session, layout.result_frame]
    layout.result_frame.input(handlers.show_result, looking, layout.result, **latest)
    correcting = layout.correct.click(handlers.correct, looking, [frame, canvas], **quiet)
    correcting.success(handlers.prepare, [session, frame], js=SHOW_LABELLING, **quiet)
    layout.files.click(handlers.make_files, session, layout.downloads)
    layout.attention.click(handlers.show_attention, looking, layout.view)
    layout.colors.click(handlers.show_colors, looking, layout.view)


@contextmanager
def errors_on_page() -> Iterator[None]:
    """Show errors as one line on the page."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def anchors_of(session: Session) -> str:
    """List the frames that are labelled by hand, or say how to label one."""
    parts = [
        f"{what} on frame {', '.join(map(str, sorted(numbers)))}"
        for what, numbers in (("masks", session.anchors), ("points", session.points))
        if numbers
    ]
    return f"Labelled by hand: {'; '.join(parts)}" if parts else "Paint or box an object, or click points, on any frame."


def canvas_of(session: Session, index: int) -> dict[str, Any]:
    """Return the value of the stage: a frame's picture, and the frame's size in pixels."""
    height, width = session.frame_size
    return {"picture": url_of(session.picture(index)), "width": width, "height": height}


def url_of(picture: Picture) -> str:
    """Encode a picture [H, W, 3] as a data URL."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def html_of(picture: Picture) -> str:
    """Make an HTML image of a picture [H, W, 3]."""
    return f'<img src="{url_of(picture)}" alt="the frame, with its labels">'

"""The page of `siammae app`: 1 video, 2 label, 3 propagate, 4 look, correct and download."""

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

from siammae.app import stage
from siammae.app.cached import remember_features, warm_up
from siammae.app.downloads import export
from siammae.app.session import NUM_OBJECTS, Picture, Session, Size
from siammae.app.upload import MAX_BYTES, SUFFIXES
from siammae.encoder import Encoder
from siammae.labels.masks import davis_palette
from siammae.synthetic.pond import render_clip
from siammae.video.encode import write_video

COLOURS = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in davis_palette()[1 : NUM_OBJECTS + 1].tolist()]
SECONDS_BETWEEN_PREVIEWS = 0.2

CSS = """
.gradio-container { max-width: 900px !important; margin: auto; }
.shown img { width: 100%; border-radius: 8px; }
#number label { border-left: 10px solid; }
""" + "".join(f"#number label:nth-of-type({i}) {{ border-left-color: {colour}; }}\n" for i, colour in enumerate(COLOURS, 1))

SHOW_LABELLING = "() => document.getElementById('labelling').scrollIntoView({ behavior: 'smooth' })"


def serve(encoder: Encoder, *, size: Size, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C; all files go when it ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warm_up(remember_features(encoder))
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


def build(encoder: Encoder, size: Size, root: Path) -> gr.Blocks:
    """The page; sessions and the example clip live in `root`."""
    (root / "sessions").mkdir()
    page: gr.Blocks = gr.Blocks(title="siammae", analytics_enabled=False, delete_cache=(600, 3600))
    with page:
        session = gr.State(None, delete_callback=lambda ended: ended and ended.close())
        gr.Markdown(f"# siammae\nLabel one frame, get the others. Model: `{encoder.name}`.")
        gr.Markdown("## 1 Video")
        file = gr.File(label="Video", file_types=list(SUFFIXES), height=140, elem_id="file")
        example = gr.Button("Take the example clip", elem_id="example")
        state = gr.Markdown(elem_id="opened")
        with gr.Column(visible=False) as work:
            gr.Markdown("## 2 Label", elem_id="labelling")
            frame = gr.Slider(0, 1, step=1, label="Frame", elem_id="frame")
            with gr.Row():
                tool = gr.Radio(["Brush", "Eraser", "Box", "Points"], value="Brush", label="Tool", scale=2, elem_id="tool")
                width = gr.Slider(1, 100, value=12, step=1, label="Brush", scale=1, elem_id="width")
            number = gr.Radio([str(i + 1) for i in range(NUM_OBJECTS)], value="1", label="Object or point", elem_id="number")
            canvas = gr.HTML(
                {"picture": "", "width": 1, "height": 1},
                html_template=stage.TEMPLATE,
                css_template=stage.CSS,
                js_on_load=stage.SCRIPT,
                elem_id="canvas",
            )
            with gr.Row():
                undo = gr.Button("Undo", size="sm", elem_id="undo")
                discard = gr.Button("Clear this frame's labels", size="sm", elem_id="discard")
            labelled = gr.Markdown(elem_id="labelled")
            gr.Markdown("## 3 Propagate")
            with gr.Row():
                run = gr.Button("Propagate", variant="primary", elem_id="run")
                stop = gr.Button("Stop", elem_id="stop")
            progress = gr.Markdown(elem_id="progress")
        with gr.Column(visible=False) as results:
            gr.Markdown("## 4 Look, correct, download")
            shown_frame = gr.Slider(0, 1, step=1, label="Frame", elem_id="shown-frame")
            shown = gr.HTML(elem_id="shown", elem_classes="shown")
            with gr.Row():
                correct = gr.Button("Correct this frame", elem_id="correct")
                files = gr.Button("Make files to download", elem_id="files")
            downloads = gr.Files(label="Downloads", visible=False, interactive=False, elem_id="downloads")
            with gr.Accordion("What the model sees in this frame", open=False):
                with gr.Row():
                    attention = gr.Button("Attention of each head", size="sm", elem_id="attention")
                    colours = gr.Button("Feature colours", size="sm", elem_id="colours")
                view = gr.HTML(elem_id="view", elem_classes="shown")

        page.load(lambda: Session(encoder, size=size, root=root / "sessions"), outputs=session)

        opened = [state, file, work, results, frame, shown_frame, canvas, labelled, progress]

        def open_video(session: Session, path: Path) -> Iterator[Any]:
            with told():
                for count in session.open(path):
                    if count % 25 == 1:
                        yield {state: f"Reading: {count} frames"}
            height, columns = session.frame_size
            sliders = gr.Slider(value=0, maximum=max(session.num_frames - 1, 1))
            yield {
                state: f"{session.num_frames} frames of {columns} x {height} pixels, {session.fps:.4g} a second",
                file: None,
                work: gr.Column(visible=True),
                results: gr.Column(visible=False),
                frame: sliders,
                shown_frame: sliders,
                canvas: _drawable(session, 0),
                labelled: _labelled(session),
                progress: "",
            }

        def upload(session: Session, path: str) -> Iterator[Any]:
            try:
                yield from open_video(session, Path(path))
            finally:
                Path(path).unlink(missing_ok=True)

        def take_example(session: Session) -> Iterator[Any]:
            path = root / "example.mp4"
            if not path.exists():
                yield {state: "Rendering the example clip"}
                clip = render_clip(36)
                write_video(path, clip.frames, clip.fps)
            yield from open_video(session, path)

        def draw(session: Session, index: int, tool: Any, number: str, width: float, event: gr.EventData) -> Any:
            with told():
                session.draw(int(index), tool, event._data["path"], int(number), width)
                following = str(int(number) % NUM_OBJECTS + 1) if tool == "Points" else number
                return _drawable(session, int(index)), _labelled(session), following

        def show(session: Session, index: int) -> Any:
            with told():
                return _drawable(session, int(index))

        def prepare(session: Session, index: int) -> None:
            with told():
                session.prepare(int(index))

        def take_back(session: Session, index: int) -> Any:
            session.undo(int(index))
            return show(session, index), _labelled(session)

        def forget(session: Session, index: int) -> Any:
            session.discard(int(index))
            return show(session, index), _labelled(session)

        def propagate(session: Session, tool: str) -> Iterator[Any]:
            started = shown_at = time.monotonic()
            what, count, index = ("points" if tool == "Points" else "masks"), 0, 0
            yield {run: gr.Button(interactive=False), progress: "Starting", downloads: gr.Files(visible=False)}
            try:
                with told():
                    for count, index in enumerate(session.propagate(what), 1):  # type: ignore[arg-type]
                        now = time.monotonic()
                        if count <= 2 or now - shown_at > SECONDS_BETWEEN_PREVIEWS:
                            shown_at = now
                            pace = f"{(now - started) / count:.2f} s a frame"
                            yield {
                                results: gr.Column(visible=True),
                                progress: f"{count} frames done, of at most {session.num_frames}; {pace}",
                                shown_frame: index,
                                shown: _image(session.picture(index)),
                            }
            finally:
                seconds = time.monotonic() - started
                yield {
                    run: gr.Button(interactive=True),
                    progress: f"Done: {count} frames in {seconds:.1f} s, {seconds / max(count, 1):.2f} s a frame",
                    shown_frame: index,
                    shown: _image(session.picture(index)),
                }

        def make_files(session: Session) -> Any:
            with told():
                return gr.Files([str(path) for path in export(session)], visible=True)

        def start_correction(session: Session, index: int) -> Any:
            return index, show(session, index)

        def seen(session: Session, index: int, what: str) -> str:
            with told():
                return _image(session.attention(int(index)) if what == "attention" else session.feature_colours(int(index)))

        hidden: dict[str, Any] = {"show_progress": "hidden"}
        latest: dict[str, Any] = {**hidden, "trigger_mode": "always_last"}
        for event in (file.upload(upload, [session, file], opened), example.click(take_example, [session], opened)):
            event.success(prepare, [session, frame], **hidden)
        frame.input(show, [session, frame], canvas, **latest)
        frame.release(prepare, [session, frame], **latest)
        canvas.submit(
            draw, [session, frame, tool, number, width], [canvas, labelled, number], **hidden, trigger_mode="multiple"
        )
        undo.click(take_back, [session, frame], [canvas, labelled], **hidden)
        discard.click(forget, [session, frame], [canvas, labelled], **hidden)
        run.click(propagate, [session, tool], [run, progress, results, shown_frame, shown, downloads], **hidden)
        stop.click(lambda session: session.stop(), session, **hidden)
        shown_frame.input(lambda session, index: _image(session.picture(int(index))), [session, shown_frame], shown, **latest)
        correcting = correct.click(start_correction, [session, shown_frame], [frame, canvas], js=None, **hidden)
        correcting.success(prepare, [session, frame], js=SHOW_LABELLING, **hidden)
        files.click(make_files, session, downloads)
        attention.click(lambda session, index: seen(session, index, "attention"), [session, shown_frame], view)
        colours.click(lambda session, index: seen(session, index, "colours"), [session, shown_frame], view)
    return page


@contextmanager
def told() -> Iterator[None]:
    """What went wrong is shown on the page as one line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from error


def _labelled(session: Session) -> str:
    parts = [
        f"{what} on frame {', '.join(map(str, sorted(numbers)))}"
        for what, numbers in (("masks", session.labelled), ("points", session.points))
        if numbers
    ]
    return f"Labelled by hand: {'; '.join(parts)}" if parts else "Paint or box an object, or click points, on any frame."


def _drawable(session: Session, index: int) -> dict[str, Any]:
    """What the stage shows."""
    height, width = session.frame_size
    return {"picture": _url(session.picture(index)), "width": width, "height": height}


def _url(picture: Picture) -> str:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _image(picture: Picture) -> str:
    return f'<img src="{_url(picture)}" alt="the frame, with its labels">'

"""The components of the page, from top to bottom, and its colours."""

import gradio as gr

from siammae.app import stage
from siammae.app.session import NUM_OBJECTS
from siammae.app.upload import SUFFIXES
from siammae.labels.masks import davis_palette

COLORS = ["#{:02x}{:02x}{:02x}".format(*color) for color in davis_palette()[1 : NUM_OBJECTS + 1].tolist()]

CSS = """
.gradio-container { max-width: 900px !important; margin: auto; }
.shown img { width: 100%; border-radius: 8px; }
#number label { border-left: 10px solid; }
""" + "".join(f"#number label:nth-of-type({i}) {{ border-left-color: {color}; }}\n" for i, color in enumerate(COLORS, 1))


class Layout:
    """The components of the page, from top to bottom."""

    def __init__(self, model: str) -> None:
        self.session = gr.State(None, delete_callback=lambda session: session and session.close())
        gr.Markdown(f"# siammae\nLabel one frame, get the others. Model: `{model}`.")
        gr.Markdown("## 1 Video")
        self.file = gr.File(label="Video", file_types=list(SUFFIXES), height=140, elem_id="file")
        self.example = gr.Button("Take the example clip", elem_id="example")
        self.opened = gr.Markdown(elem_id="opened")
        with gr.Column(visible=False) as self.work:
            self._add_labelling()
            gr.Markdown("## 3 Propagate")
            with gr.Row():
                self.run = gr.Button("Propagate", variant="primary", elem_id="run")
                self.stop = gr.Button("Stop", elem_id="stop")
            self.progress = gr.Markdown(elem_id="progress")
        with gr.Column(visible=False) as self.results:
            self._add_results()

    def _add_labelling(self) -> None:
        gr.Markdown("## 2 Label", elem_id="labelling")
        self.frame = gr.Slider(0, 1, step=1, label="Frame", elem_id="frame")
        with gr.Row():
            self.tool = gr.Radio(["Brush", "Eraser", "Box", "Points"], value="Brush", label="Tool", scale=2, elem_id="tool")
            self.width = gr.Slider(1, 100, value=12, step=1, label="Brush", scale=1, elem_id="width")
        numbers = [str(i + 1) for i in range(NUM_OBJECTS)]
        self.number = gr.Radio(numbers, value="1", label="Object or point", elem_id="number")
        self.canvas = gr.HTML(
            {"picture": "", "width": 1, "height": 1},
            html_template=stage.TEMPLATE,
            css_template=stage.CSS,
            js_on_load=stage.SCRIPT,
            elem_id="canvas",
        )
        with gr.Row():
            self.undo = gr.Button("Undo", size="sm", elem_id="undo")
            self.discard = gr.Button("Clear this frame's labels", size="sm", elem_id="discard")
        self.anchors = gr.Markdown(elem_id="labelled")

    def _add_results(self) -> None:
        gr.Markdown("## 4 Look, correct, download")
        self.result_frame = gr.Slider(0, 1, step=1, label="Frame", elem_id="shown-frame")
        self.result = gr.HTML(elem_id="shown", elem_classes="shown")
        with gr.Row():
            self.correct = gr.Button("Correct this frame", elem_id="correct")
            self.files = gr.Button("Make files to download", elem_id="files")
        self.downloads = gr.Files(label="Downloads", visible=False, interactive=False, elem_id="downloads")
        with gr.Accordion("What the model sees in this frame", open=False):
            with gr.Row():
                self.attention = gr.Button("Attention of each head", size="sm", elem_id="attention")
                self.colors = gr.Button("Feature colours", size="sm", elem_id="colours")
            self.view = gr.HTML(elem_id="view", elem_classes="shown")

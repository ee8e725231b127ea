"""Run the notebooks and store their outputs, so that they can be read on GitHub and in Colab without being run.

python docs/run_notebooks.py
"""

import base64
from io import BytesIO
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"


def run(path: Path) -> nbformat.NotebookNode:
    """Return the notebook, run in its own folder, with what does not depend on the machine and the day."""
    notebook = nbclient.execute(nbformat.read(path, 4), cwd=str(path.parent))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]  # warnings about the machine
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in data if kind.startswith("image/") and kind != "image/png"]:
                del data[kind]  # a picture comes in several formats
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def smaller(png: str) -> str:
    """Return a PNG picture, in base64, with 128 colours: a third of the bytes."""
    file = BytesIO()
    Image.open(BytesIO(base64.b64decode(png))).convert("RGB").quantize(128).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(run(path), path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")

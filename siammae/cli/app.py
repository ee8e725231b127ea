"""The command `siammae app`: the page in the browser."""

from pathlib import Path

from siammae.cli.options import Model


def app(
    model: Model,
    port: int = 7860,
    host: str = "127.0.0.1",
    browser: bool = True,
    workspace: Path | None = None,
    allow_host: tuple[str, ...] = (),
) -> None:
    """Label a video in the browser: mark objects, propagate, correct, download.

    Example: siammae app --workspace projects

    Args:
        port: Port to serve on.
        host: Address to serve at; any other than 127.0.0.1 lets other machines in.
        browser: Open the page in the browser.
        workspace: Folder that keeps projects (videos, labels, results), to go on later; without it they end with the app.
        allow_host: Further names of this machine by which browsers reach the page, as behind a proxy.
    """
    try:
        from siammae.app.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise ImportError("the app needs starlette and uvicorn: pip install 'siammae[demo]'") from error
    serve(model.load(), size=model.input_size, host=host, port=port, browser=browser, workspace=workspace, names=allow_host)

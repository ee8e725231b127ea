"""The command `siammae app`: the page in the browser."""

from siammae.cli.options import Model


def app(model: Model, port: int = 7860, host: str = "127.0.0.1", browser: bool = True) -> None:
    """Label a video in the browser: paint, box or click, propagate, correct, download.

    Example: siammae app --port 7861

    Args:
        port: Port to serve on.
        host: Address to serve at; any other than 127.0.0.1 lets other machines in.
        browser: Open the page in the browser.
    """
    try:
        from siammae.app.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ImportError("the app needs gradio: pip install 'siammae[demo]'") from error
    serve(model.load(), size=model.input_size, host=host, port=port, browser=browser)

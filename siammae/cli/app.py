"""The command that serves the app."""

from siammae.cli.options import encoder_size, load
from siammae.models.registry import DEFAULT_MODEL


def app(
    port: int = 7860,
    host: str = "127.0.0.1",
    browser: bool = True,
    model: str = DEFAULT_MODEL,
    pretrained: bool = True,
    size: tuple[int, ...] = (),
    device: str | None = None,
) -> None:
    """Label a video in the browser: paint, box or click, propagate, correct, download.

    Example: siammae app --port 7861

    Args:
        port: Of the page.
        host: Address that it is served at; any other than 127.0.0.1 lets other machines in.
        browser: --no-browser does not open the page.
        model: Registered name, timm:NAME, model folder or .safetensors file.
        pretrained: --no-pretrained takes the initial weights of the architecture.
        size: Shorter side in pixels at which the encoder sees the frames, or height and width.
        device: cuda, mps, cpu; the fastest there is if not given.
    """
    try:
        from siammae.app.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ImportError("the app needs gradio: pip install 'siammae[demo]'") from error
    serve(load(model, pretrained, device), size=encoder_size(size), host=host, port=port, browser=browser)

"""What several tests share: small encoders, textures that move, and the real clips where they are present."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from numpy.typing import NDArray

import siammae.encoder
from siammae.encoder import Encoder
from siammae.models.build import build_encoder

HUB = HubServer()  # the Hub's client reads these when it is imported
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": HUB.url, "NO_PROXY": "127.0.0.1,localhost"}

FullDisk = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def float32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests compare features closely on every machine: products stay in float32, but where a test asks for others."""
    monkeypatch.setattr(siammae.encoder, "bfloat16_is_faster", lambda: False)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """Two untrained blocks of a tiny transformer, patch 16: quick, and good enough to match textures."""
    return build_encoder("vit_tiny_patch16_224", {"depth": 2}, name="tiny").eval()


@pytest.fixture(scope="session")
def colours() -> Encoder:
    """No block at all but the patch projection: features that depend on nothing but a patch's own pixels.

    A texture that moves by a part of a patch is another scene to it, so no frame is foreign unless a test says otherwise.
    """
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1, "patch_size": 8}, name="colours").eval()
    encoder.metadata["propagation"] = {"foreign_below": 0}
    with torch.no_grad():
        encoder.vit.pos_embed.zero_()
        for parameter in encoder.vit.blocks.parameters():
            parameter.zero_()
    return encoder


@pytest.fixture(scope="session")
def texture() -> NDArray[np.uint8]:
    """A picture [256, 256, 3] in which no two places look alike."""
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips with ground truth; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SIAMMAE_DATA", default))
    if not (folder / "davis2016").is_dir():
        pytest.skip(f"no real clips at {folder}; set SIAMMAE_DATA to a folder that holds davis2016")
    return folder


@pytest.fixture
def full_disk() -> FullDisk:
    """A context in which no file can grow beyond so many bytes: the system refuses to write more, as on a full disk.

    It must end before the test does: pytest's own output may go to a file.
    """

    resource = pytest.importorskip("resource", reason="limits of the file size are Unix's")

    @contextmanager
    def limit(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models as small as those of the tests lose more to the meeting of threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

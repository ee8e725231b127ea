"""Projection of features: whitening against its definition, kept with the model, used where features are compared."""

import re
from pathlib import Path

import films
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from siammae import LabelPropagator, PropagationConfig, WeightsError, load_model, save_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.features import descriptors, encode, fit_projection
from siammae.geometry import Geometry
from siammae.models.patches import with_patch_size
from siammae.models.projection import Projection, fit_whitening
from siammae.visualize.maps import correspondence


def stretched(cells: int, seed: int = 0) -> Tensor:
    """Features [4, cells / 5, 5] of very unequal variances, away from zero."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(cells, 4, generator=generator, dtype=torch.float64) * torch.tensor([10.0, 3.0, 1.0, 0.1])
    turned = rows @ torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q + 7
    return turned.T.reshape(4, -1, 5).float()


@pytest.fixture
def white(encoder: Encoder, texture: NDArray[np.uint8]) -> Encoder:
    """The small encoder with a projection fitted to two pictures."""
    return fit_projection([[texture], [texture[::-1].copy()]], encoder, progress=False)


def covariance(grids: list[Tensor]) -> Tensor:
    return torch.cov(torch.cat([grid.flatten(1) for grid in grids], dim=1).double())


@pytest.mark.parametrize("ridge", [1e-6, 0.1, 2.0])
def test_whitened_features_have_the_covariance_of_the_definition(ridge: float) -> None:
    grids = [stretched(500), stretched(250, seed=0)]
    projection = fit_whitening(iter(grids), ridge)
    projected = [projection(grid[None])[0] for grid in grids]
    before = covariance(grids) * (749 / 750)
    expected = before @ torch.linalg.inv(before + ridge * before.trace() / 4 * torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(covariance(projected) * (749 / 750), expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(torch.cat([grid.flatten(1) for grid in projected], 1).mean(1), torch.zeros(4), atol=1e-3, rtol=0)


def test_a_fit_needs_cells_and_a_ridge() -> None:
    with pytest.raises(ValueError, match="more cells than channels; got 0 cells"):
        fit_whitening([])
    with pytest.raises(ValueError, match="more cells than channels; got 4 cells"):
        fit_whitening([torch.rand(4, 2, 2)])
    with pytest.raises(ValueError, match=r"ridge is 0; expected a positive number"):
        fit_whitening([torch.rand(4, 9, 9)], 0)
    with pytest.raises(ValueError, match="frames is 0"):
        fit_projection([[]], "vitt8d6", frames=0)


def test_a_projection_of_wrong_shapes_or_values_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("expected [D] and [D, D]")):
        Projection(torch.zeros(3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="not finite"):
        Projection(torch.zeros(2), torch.full((2, 2), float("nan")))


def test_a_model_keeps_its_projection(white: Encoder, encoder: Encoder, tmp_path: Path) -> None:
    folder = save_model(white, tmp_path / "white")
    loaded = load_model(folder, device="cpu")
    assert loaded.projection is not None
    assert white.projection is not None
    for name, values in white.projection.state_dict().items():
        assert torch.equal(loaded.projection.state_dict()[name], values)
    assert loaded.metadata["projection"] == {"method": "whitening", "ridge": 0.1, "videos": 2, "frames": 2}
    assert loaded.digest() == white.digest() != encoder.digest()
    assert load_model(folder / "model.safetensors", device="cpu").digest() == white.digest()
    assert with_patch_size(loaded, 8).projection is loaded.projection
    save_model(encoder, folder, overwrite=True)
    assert load_model(folder, device="cpu").projection is None
    assert not (folder / "projection.safetensors").exists()


def test_a_projection_that_is_missing_or_foreign_is_named(white: Encoder, tmp_path: Path) -> None:
    folder = save_model(white, tmp_path / "white")
    file = folder / "projection.safetensors"
    save_file({"mean": torch.zeros(8), "matrix": torch.eye(8)}, file)
    with pytest.raises(WeightsError, match="a projection of 8 channels; the model has 192"):
        load_model(folder, device="cpu")
    save_file({"average": torch.zeros(192)}, file)
    with pytest.raises(WeightsError, match="holds average; expected mean and matrix"):
        load_model(folder, device="cpu")
    file.unlink()
    with pytest.raises(WeightsError, match=r"projection\.safetensors"):
        load_model(folder, device="cpu")


def test_projected_features_are_compared(white: Encoder, texture: NDArray[np.uint8]) -> None:
    frame = torch.from_numpy(texture).permute(2, 0, 1)
    geometry = Geometry.of((256, 256), white)
    with torch.no_grad():
        raw = encode(white, [frame], geometry, -1)
        assert white.projection is not None
        expected = F.normalize(white.projection(raw), dim=1)
        torch.testing.assert_close(descriptors(white, [frame], geometry), expected)
        torch.testing.assert_close(descriptors(white, [frame], geometry, projected=False), F.normalize(raw, dim=1))
        assert not torch.allclose(expected, F.normalize(raw, dim=1), atol=0.1)
        inner = F.normalize(encode(white, [frame], geometry, 0), dim=1)
        torch.testing.assert_close(descriptors(white, [frame], geometry, 0), inner)
    mask = np.tri(256, dtype=np.uint8)
    own, preset = LabelPropagator(texture, mask, white), LabelPropagator(texture, mask, white, config="dino")
    assert own.config == PropagationConfig(projection=True)
    assert not preset.config.projection
    own.step(texture)
    preset.step(texture)
    _, similarity = correspondence(texture, [[100, 100]], texture[::-1].copy(), white, size=256)
    with torch.no_grad():
        turned = descriptors(white, [frame.flip(1)], geometry)[0]
    here = expected[0, :, 6, 6]  # the cell's centre is pixel 103.5, the point lies 3.5 pixels to its left and above
    assert abs(np.mean(similarity[0]) - float(torch.einsum("d,dhw->hw", here, turned).mean())) < 0.02


def test_a_projection_that_is_asked_for_must_be_there(encoder: Encoder, white: Encoder, texture: NDArray[np.uint8]) -> None:
    mask = np.tri(256, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"tiny has no projection; `siammae fit-projection` fits one"):
        LabelPropagator(texture, mask, encoder, config={"projection": True})
    with pytest.raises(ValueError, match="is for its last block, not layer 0"):
        LabelPropagator(texture, mask, white, config={"layer": 0})


def test_the_command_fits_and_writes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], encoder: Encoder) -> None:
    model = save_model(encoder, tmp_path / "model")
    videos = [films.write(tmp_path / f"{n}.mp4", [films.picture(5 * n + i, 96, 160) for i in range(4)]) for n in range(2)]
    with pytest.raises(SystemExit) as ended:
        main(["fit-projection", str(model), str(videos[0]), str(tmp_path / "none.mp4"), "-o", str(tmp_path / "x")])
    assert ended.value.code == 2
    assert "no such video" in capsys.readouterr().err
    main(["fit-projection", str(model), *map(str, videos), "-o", str(tmp_path / "white"), "--frames", "3"])
    assert "projection: 2 videos, 6 frames, ridge 0.1" in capsys.readouterr().out
    assert load_model(tmp_path / "white", device="cpu").projection is not None
    main(["pca", str(videos[0]), "-o", str(tmp_path / "white.png"), "--model", str(tmp_path / "white")])
    main(["pca", str(videos[0]), "-o", str(tmp_path / "plain.png"), "--model", str(model)])
    assert (tmp_path / "white.png").read_bytes() != (tmp_path / "plain.png").read_bytes()

"""Pictures of the model's view of a frame: its attention, and its features as colours."""

import io

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from siammae.app.session import Session
from siammae.features import extract_features
from siammae.video.pictures import read_image
from siammae.visualize.colors import FeatureColors
from siammae.visualize.maps import attention_maps, draw_heat
from siammae.visualize.sheets import contact_sheet

Picture = NDArray[np.uint8]


def attention(session: Session, index: int) -> Picture:
    """Draw a frame, and the attention of each head's CLS token in it."""
    view = _view(session, index)
    maps = attention_maps(view, session.encoder, size=session.size)
    return contact_sheet([view, *(draw_heat(view, heat) for heat in maps)], columns=2)


def feature_colors(session: Session, index: int) -> Picture:
    """Draw the first three principal components of a frame's features as colours that mean the same in the whole video."""
    view = _view(session, index)

    def features(pictures: list[Picture]) -> Tensor:
        return extract_features(pictures, session.encoder, size=session.size, batch_size=1, progress=False)

    last = session.num_frames - 1
    colors = FeatureColors(features([_view(session, number) for number in sorted({0, last // 2, last})]))
    picture: Picture = colors(features([view]), view.shape[:2])[0]
    return picture


def _view(session: Session, index: int) -> Picture:
    return np.array(read_image(io.BytesIO(session.jpeg(index))))

"""Make the films and pictures of README and gallery from real footage, with the embedded models.

    git clone https://github.com/dirtmaxim/kabr
    python docs/make_pictures.py kabr/assets/gifs/examples docs/images [NAME ...]

The clips are animals filmed by a drone in Kenya, from the page of the KABR data set (CC0 1.0). The shapes below were drawn by
hand on the first frame; every other mask and point is found. NAME makes single pictures, such as `teaser`.
"""

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from siammae import extract_features, load_model, propagate_keypoints, propagate_labels, read_frames, segment, visualize
from siammae.encoder import Encoder
from siammae.labels.shapes import draw_shapes
from siammae.video import write_picture, write_video

SIZE = 1000, 750  # width and height of frames, enlarged from 280 x 210
FPS = 8
DETAIL = 360  # shorter side at which the whole giraffe is propagated, for its thin legs; the default is 240
FILM = 640  # width of films in pixels
COLORS = [0, 0, 0, 0, 160, 255, 255, 220, 0, 255, 64, 129]  # of the background and three ids: blue, yellow, magenta
GIRAFFE = [
    "1=polygon:217,192,236,150,262,118,300,124,292,146,330,174,380,208,430,228,490,240,540,255,580,280,620,310,655,338,690,355,692,400,"
    "690,470,715,510,720,560,750,598,745,622,712,632,716,592,700,545,685,505,650,478,622,480,612,515,580,562,566,556,588,495,592,425,"
    "560,418,532,425,540,500,545,560,540,620,522,628,514,560,504,500,495,440,478,470,462,505,480,545,500,590,486,588,455,525,436,495,"
    "445,470,472,430,478,404,460,372,465,340,440,310,400,285,360,250,320,215,290,190,262,186,240,195",
    "1=polygon:690,352,735,362,752,385,756,430,776,488,764,500,740,450,742,390,715,376,690,376",
]
ZEBRAS = [
    "1=polygon:388,270,428,270,446,300,470,312,560,312,605,330,622,380,616,415,606,420,606,478,592,478,585,420,572,470,552,482,564,420,"
    "556,390,482,392,470,420,476,468,456,470,450,420,442,460,430,462,432,400,425,370,402,348,390,310",
    "2=polygon:688,260,702,270,760,275,800,300,850,306,920,315,950,348,985,410,955,392,930,396,915,450,898,468,894,450,905,400,880,386,"
    "820,386,815,410,846,462,832,464,800,412,786,416,784,456,764,462,772,415,765,370,735,332,715,326,685,352,668,346,672,320,690,290",
]
PARTS = [  # head and neck, trunk, legs
    "2=polygon:445,300,460,240,490,240,540,255,580,280,620,310,655,338,690,355,694,400,690,480,650,478,622,480,592,425,532,425,495,440,"
    "478,430,478,404,460,372,465,340",
    "1=polygon:217,192,236,150,262,118,300,124,292,146,330,174,380,208,430,228,460,238,445,305,400,285,360,250,320,215,290,190,262,186",
    "3=polygon:690,470,715,510,720,560,750,598,745,622,712,632,716,592,700,545,685,505,650,478",
    "3=polygon:622,480,612,515,580,562,566,556,588,495,592,440",
    "3=polygon:532,430,540,500,545,560,540,620,522,628,514,560,504,500,497,440",
    "3=polygon:490,442,478,470,462,505,480,545,500,590,486,588,455,525,436,495,445,470,472,430",
]
POINTS = [[301, 316], [322, 218], [425, 262], [560, 275], [632, 300], [508, 370]]  # snout, ear, withers, back, rump, belly
BOXES = {  # left, top, right, bottom
    "ZP0554-Graze": (215, 195, 800, 560),
    "ZP0632-Walk": (280, 200, 720, 545),
    "G0078-Browse": (365, 190, 620, 580),
}


class Pictures:
    """The pictures, by name; masks and points are found when they are needed."""

    def __init__(self, clips: Path, out: Path) -> None:
        self.clips, self.out = clips, out

    @property
    @cache  # noqa: B019  one object lives as long as the script
    def model(self) -> Encoder:
        return load_model("vits8")

    @cache  # noqa: B019
    def frames(self, name: str) -> NDArray[np.uint8]:
        """Read a clip, enlarged and without the grain of GIF: [T, H, W, 3]."""
        smooth = ImageFilter.GaussianBlur(0.6)
        small = (
            Image.fromarray(frame.permute(1, 2, 0).numpy()).filter(smooth) for frame in read_frames(self.clips / f"{name}.gif")
        )
        return np.stack([np.array(frame.resize(SIZE, Image.Resampling.LANCZOS)) for frame in small])

    @cache  # noqa: B019
    def masks(self, name: str, size: int | None, *shapes: str) -> NDArray[np.uint8]:
        first = draw_shapes(shapes, SIZE[::-1]).astype(np.uint8)
        return np.asarray(propagate_labels(self.frames(name), first, self.model, size=size))

    def labelled(self, name: str, shapes: list[str], size: int | None = None) -> list[NDArray[np.uint8]]:
        """Draw the masks over all frames of a clip."""
        pairs = zip(self.frames(name), self.masks(name, size, *shapes), strict=True)
        return [visualize.overlay(frame, mask, COLORS, opacity=0.35, outline=5) for frame, mask in pairs]

    def write(self, name: str, picture: NDArray[np.uint8]) -> None:
        image = Image.fromarray(picture)
        image.thumbnail((1000, 1000))
        write_picture(self.out / f"{name}.jpg", np.array(image))

    def film(self, name: str, pictures: list[NDArray[np.uint8]], gif: bool = False) -> None:
        """Write a film; as GIF it is cropped, without the finest grain, and with few colours, since GIFs are large."""
        height = round(FILM * SIZE[1] / SIZE[0])
        images = [Image.fromarray(picture).resize((FILM, height), Image.Resampling.LANCZOS) for picture in pictures]
        write_video(self.out / f"{name}.mp4", images, FPS)
        if gif:
            parts = (image.crop((0, 40, FILM, 440)).filter(ImageFilter.GaussianBlur(1.2)) for image in images)
            first, *rest = (part.quantize(32, dither=Image.Dither.NONE) for part in parts)
            first.save(self.out / f"{name}.gif", save_all=True, append_images=rest, duration=1000 // FPS, loop=0)

    def teaser(self) -> None:
        self.film("teaser", self.labelled("G0073-Walk", GIRAFFE, DETAIL), gif=True)

    def zebras(self) -> None:
        pictures = self.labelled("ZP0630-Head_Up", ZEBRAS)
        self.write("zebras", visualize.contact_sheet([pictures[i][200:570] for i in (0, 8, 16, 24)], columns=2))

    def before_after(self) -> None:
        frames, pictures = self.frames("G0073-Walk"), self.labelled("G0073-Walk", GIRAFFE, DETAIL)
        self.write(
            "teaser", visualize.contact_sheet([*(frames[i] for i in (0, 8, 16, 24)), *(pictures[i] for i in (0, 8, 16, 24))], 4)
        )

    def boxes(self) -> None:
        drawn = []
        for name, box in BOXES.items():
            frame = self.frames(name)[0]
            image = Image.fromarray(frame)
            ImageDraw.Draw(image).rectangle(box, outline=(255, 220, 0), width=8)
            mask = segment(frame, box=box, model=self.model)
            drawn.append(visualize.overlay(image, mask, COLORS, opacity=0.35, outline=5))
        self.write("boxes", visualize.contact_sheet(drawn, columns=3))

    def parts(self) -> None:
        pictures = self.labelled("G0073-Walk", PARTS)
        self.write("parts", visualize.contact_sheet([pictures[i] for i in (0, 12, 18, 24)], columns=2))

    def trails(self) -> None:
        frames = self.frames("ZP0632-Walk")
        tracks, _ = propagate_keypoints(frames, POINTS, self.model)
        drawn = [visualize.draw_trails(frames[i], tracks[max(0, i - 10) : i + 1], radius=10) for i in (0, 8, 16, 24)]
        self.write("trails", visualize.contact_sheet(drawn, columns=2))

    def pca(self) -> None:
        frames = self.frames("G0073-Walk")[[0, 12, 24]]
        features = extract_features(frames, self.model, size=360)
        colors = visualize.FeatureColors(features)(features, SIZE[::-1])
        self.write("pca", visualize.contact_sheet([*frames, *colors], columns=3))

    def correspondence(self) -> None:
        giraffe, zebra = self.frames("G0073-Walk"), self.frames("ZP0632-Walk")
        drawn = []
        for point in ([245, 165], [690, 400], [730, 610]):
            others = [giraffe[24], zebra[0]]
            drawn.append(visualize.draw_keypoints(giraffe[0], [point], radius=16))
            for other in others:
                matches, similarity = visualize.correspondence(giraffe[0], [point], other, self.model)
                drawn.append(visualize.draw_keypoints(visualize.draw_heat(other, similarity[0]), matches, radius=16))
        self.write("correspondence", visualize.contact_sheet(drawn, columns=3))

    def attention(self) -> None:
        frame = self.frames("G0073-Walk")[0]
        heads = [visualize.draw_heat(frame, heat) for heat in visualize.attention_maps(frame, self.model)]
        self.write("attention", visualize.contact_sheet(heads, columns=3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, help="folder with the clips of KABR's page")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    names = ["teaser", "before_after", "boxes", "zebras", "parts", "trails", "pca", "correspondence", "attention"]
    parser.add_argument("names", nargs="*", default=names, choices=names, help="pictures to make; all by default")
    options = parser.parse_args()
    pictures = Pictures(options.clips, options.out)
    for name in options.names:
        make: Callable[[], None] = getattr(pictures, name)
        make()


if __name__ == "__main__":
    main()

"""Predictions as one ZIP file: packed for the server of a data set, and unpacked to be scored."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from siammae.evaluation.datasets.sequences import MaskSequence, PathLike, check_complete, shortened
from siammae.files import atomic

KINDS = ".png", ".csv"  # suffixes of predictions
MAX_RATIO = 200  # a mask of one id shrinks about 150 times; more is no prediction


def write_submission(sequences: Sequence[MaskSequence], predictions: Path, path: Path, folder: str = "") -> Path:
    """Pack the mask of every frame as FOLDER/SEQUENCE/FRAME.png; the same masks give the same bytes.

    Raises:
        FileNotFoundError: masks that are missing, all of them named.
    """
    masks = [predictions / sequence.name / f"{frame.stem}.png" for sequence in sequences for frame in sequence.frames]
    missing = [f"{mask.parent.name}/{mask.name}" for mask in masks if not mask.is_file()]
    check_complete(predictions, missing, "a mask of every frame")
    with atomic(path) as draft, zipfile.ZipFile(draft, "w") as archive:  # PNGs are compressed already
        for mask in masks:
            name = PurePosixPath(folder, mask.parent.name, mask.name)
            archive.writestr(zipfile.ZipInfo(str(name)), mask.read_bytes())
    return path


@contextmanager
def open_predictions(path: PathLike) -> Iterator[Path]:
    """Yield the folder of predictions, SEQUENCE/FRAME.png or SEQUENCE.csv: `path` itself, or a ZIP file unpacked for a while.

    Folders around all sequences, such as Annotations, are left out.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a file.
        ValueError: another file than a ZIP, one without predictions, or one with damaged or dangerous members.
    """
    source = Path(path)
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; expected a folder of predictions, or a ZIP file of one")
    with tempfile.TemporaryDirectory(prefix="siammae-") as folder:
        _unpack(source, Path(folder))
        yield Path(folder)


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if _is_prediction(member)]
            names = [PurePosixPath(member.filename) for member in members]
            if not members:
                raise ValueError(f"{source} holds no {' or '.join(KINDS)} file; expected SEQUENCE/FRAME.png or SEQUENCE.csv")
            if wrong := [str(name) for name in names if name.is_absolute() or ".." in name.parts or "\\" in str(name)]:
                raise ValueError(f"{source} has members outside its folders: {shortened(wrong)}")
            if huge := [member.filename for member in members if member.file_size > 4096 + MAX_RATIO * member.compress_size]:
                raise ValueError(f"{source} has members that unpack to more than {MAX_RATIO} times: {shortened(huge)}")
            depth = _depth_around(names)
            for member, name in zip(members, names, strict=True):
                target = folder / PurePosixPath(*name.parts[depth:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as data, open(target, "wb") as file:
                    shutil.copyfileobj(data, file)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, other compression, encrypted
        raise ValueError(f"{source} cannot be read as a ZIP file: {error}") from error


def _is_prediction(member: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(member.filename)
    hidden = "__MACOSX" in name.parts or name.name.startswith(".")
    return not member.is_dir() and not hidden and name.suffix.lower() in KINDS


def _depth_around(names: Sequence[PurePosixPath]) -> int:
    """Count the folders around the sequences: masks lie in a folder of their sequence, tables do not."""
    depths = {len(name.parts) - (2 if name.suffix.lower() == ".png" else 1) for name in names}
    return max(0, min(depths))

"""The commands for models: list, describe, convert, export and publish them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from siammae.cli.checks import ModelName, Readable
from siammae.cli.options import Json, Out, load_named, print_json
from siammae.models.registry import EMBEDDED, REGISTRY, ModelInfo, list_models, model_info


def convert(
    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT"), Readable("file")],
    out: Out,
    family: Annotated[Literal["auto", "cropmae", "catmae", "rsp", "tobo", "mae"], arg(name="from")] = "auto",
    heads: int | None = None,
    patch_size: int | None = None,
    name: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the encoder of a published checkpoint as a model folder: CropMAE, CatMAE, RSP, ToBo or MAE.

    Example: siammae convert cropmae_k400.pth -o models/cropmae --license mit

    Args:
        checkpoint: File to convert, .pth, .pt or .safetensors; a pickle may hold tensors, numbers and argparse's Namespace.
        out: Folder for the model.
        family: Method that made the checkpoint; auto recognises it by its keys.
        heads: Number of attention heads of the encoder; one for every 64 channels if not given.
        patch_size: Side of a patch in pixels, to resize the patch projection to; the checkpoint's own if not given.
        name: Name of the model; the folder's name if not given.
        license: Licence of the weights, such as mit.
        overwrite: Replace the folder if it exists.
    """
    from siammae.models.checkpoints import convert as run
    from siammae.models.load import load_model

    run(checkpoint, out, family=family, heads=heads, patch_size=patch_size, name=name, license=license, overwrite=overwrite)
    encoder = load_model(out, device="cpu")
    source = encoder.metadata["source"]
    print(f"{source['method']}, {source['file']}, sha256 {source['sha256']}")
    print(f"model: {out}: {encoder.architecture}, patch {encoder.patch_size}, {encoder.num_parameters:,} parameters")
    print(f"decoder: {'kept' if encoder.metadata['decoder'] else 'none'}; {source['left_out']} other tensors left out")


def card(
    folder: Annotated[Positional[Path], arg(metavar="FOLDER"), Readable("model folder")],
    evaluations: Annotated[Positional[tuple[Path, ...]], arg(metavar="OUT")] = (),
) -> None:
    """Rewrite the card of a model folder, with the scores of siammae evaluate.

    Example: siammae card my-model runs/dino runs/best

    Args:
        folder: Model folder.
        evaluations: Folders that siammae evaluate wrote for exactly these weights.
    """
    from siammae.evaluation.evaluation import SCORES_FILE
    from siammae.models.folder import CARD_FILE, add_evaluations

    add_evaluations(folder, [out / SCORES_FILE for out in evaluations])
    print(f"card: {folder / CARD_FILE}")


def fit_projection(
    model: Annotated[Positional[str], arg(metavar="MODEL"), ModelName()],
    videos: Annotated[Positional[tuple[Path, ...]], arg(metavar="VIDEO")],
    out: Out,
    frames: int = 2,
    ridge: float = 0.1,
    overwrite: bool = False,
) -> None:
    """Fit the whitening of a model's features to videos without labels, and write the model with it.

    Whitening helps models of the masked autoencoders' kind, whose features lie in few directions. Propagation, correspondence
    and pca then compare whitened features.

    Example: siammae fit-projection models/cropmae clips/*.mp4 -o models/cropmae-white

    Args:
        model: Registered name, hf-hub:OWNER/NAME, timm:NAME, model folder, .safetensors file, or folder of a training run.
        videos: Videos to fit to.
        out: Folder for the model with its projection.
        frames: Number of frames of each video, spread over it.
        ridge: Share of the mean variance that is added to every direction; the larger, the milder.
        overwrite: Replace the folder if it exists.
    """
    from siammae.features import fit_projection as fit
    from siammae.models.folder import save_model

    if missing := [str(video) for video in videos if not video.exists()]:
        raise FileNotFoundError(f"no such video: {missing[0]}")
    encoder = fit(list(videos), load_named(model), frames=frames, ridge=ridge)
    save_model(encoder, out, overwrite=overwrite)
    print("projection: {videos} videos, {frames} frames, ridge {ridge:g}".format_map(encoder.metadata["projection"]))
    print(f"model: {out}")


def export(
    model: Annotated[Positional[str], arg(metavar="MODEL"), ModelName()],
    out: Out,
    size: tuple[int, int] | None = None,
    pretrained: bool = True,
) -> None:
    """Write an encoder for other runtimes, after comparing its features with torch's.

    Example: siammae export vitt8d6 -o vitt8d6.onnx --size 240 424

    Args:
        model: Registered name, hf-hub:OWNER/NAME, timm:NAME, model folder, .safetensors file, or folder of a training run.
        out: File to write: .onnx for ONNX, .pt2 for torch.export.
        size: Height and width of the images, whole patches; the encoder takes images of any size if not given.
        pretrained: Load trained weights; --no-pretrained takes the initial weights of the architecture.
    """
    from siammae.models.runtimes import export_encoder

    encoder = load_named(model, pretrained=pretrained, device="cpu")
    export_encoder(encoder, out, size=size)
    shape = "3 x {} x {}".format(*size) if size else f"3 x H x W, multiples of {encoder.patch_size}"
    print(f"exported: {out}, {out.stat().st_size:,} bytes; images of {shape}, mean {encoder.mean}, std {encoder.std}")


def push(
    folder: Annotated[Positional[Path], arg(metavar="FOLDER"), Readable("model folder")],
    repo: Annotated[Positional[str], arg(metavar="OWNER/NAME")],
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub, with the token of hf auth login or HF_TOKEN.

    Example: siammae push my-model me/my-model --private

    Args:
        folder: Model folder with weights, config and card.
        repo: Repo to upload to; it is created if it does not exist.
        private: Make a new repo visible to its owner only.
        create_pr: Propose the upload as a pull request.
        dry_run: Check the folder and list what would be uploaded.
    """
    from siammae.models.folder import check_folder
    from siammae.models.hub import Repo, push_to_hub

    if dry_run:
        encoder, name = check_folder(folder), Repo.parse(repo).name
        for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
            print(f"{path.name:24} {path.stat().st_size:12,} bytes")
        print(f"{encoder.name}, {encoder.architecture}, would go to {name}; nothing was uploaded")
        return
    pushed = push_to_hub(folder, repo, private=private, create_pr=create_pr)
    print(f"pull request: {pushed}" if create_pr else f"pushed: hf-hub:{pushed}")


def models(pattern: Annotated[Positional[str], arg(metavar="PATTERN")] = "*", all: bool = False, as_json: Json = False) -> None:
    """List the models with weights: sizes, source of the weights, whether they are on this machine, and scores.

    Example: siammae models --all

    Args:
        pattern: Shell pattern for names, such as "vits*".
        all: Also list the architectures without weights, for training and --no-pretrained.
    """
    names = list_models(pattern, True) + (list_models(pattern, False) if all else [])
    if as_json:
        print_json([{**asdict(info), "here": _is_here(info)} for info in map(model_info, names)])
        return
    print(
        f"{'name':8} {'patch':>5} {'channels':>8} {'blocks':>6} {'parameters':>12}  {'weights':16} {'here':5} license  measured"
    )
    for info in map(model_info, names):
        measured = ", ".join(f"{name} {value:g}" for name, value in info.metrics.items())
        row = f"{info.name:8} {info.patch_size:5} {info.embed_dim:8} {info.depth:6} {info.num_parameters:12,}"
        print(f"{row}  {info.weights or 'none':16} {_is_here(info):5} {info.license or '-'}  {measured or '-'}")


def _is_here(info: ModelInfo) -> str:
    """Return yes or no for weights that are on this machine or not, and - for a model without weights."""
    if info.weights is None:
        return "-"
    if info.weights == EMBEDDED:
        return "yes"
    from siammae.models.folder import HUB_FILES
    from siammae.models.hub import PREFIX, Repo, is_cached

    return "yes" if is_cached(Repo.parse(info.weights.removeprefix(PREFIX)), HUB_FILES) else "no"


def info(name: Annotated[Positional[str], arg(metavar="NAME")], as_json: Json = False) -> None:
    """Describe a registered model, or a training run.

    Example: siammae info vitt8d6 --json

    Example: siammae info runs/my-run

    Args:
        name: Name of the model, as `siammae models` lists it, or folder of a training run.
    """
    facts = _run_facts(name) if Path(name).is_dir() and name not in REGISTRY else asdict(model_info(name))
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if key != "config":
            print(f"{key}: {value}")


def _run_facts(folder: str) -> dict[str, Any]:
    """Return the facts of a training run; ValueError if the folder is none."""
    from siammae.training.folder import describe_run, is_run

    if not is_run(folder):
        raise ValueError(f"{folder} is no training run: it has no checkpoint; models are listed by: siammae models --all")
    return describe_run(folder)

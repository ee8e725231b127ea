"""Model cards: what a model folder's README.md says, made from what is known of the weights."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from siammae.encoder import Encoder

TAGS = "siamese-mae", "video", "correspondence", "label-propagation", "timm"

CITATION = """@inproceedings{gupta2023siamese,
  title     = {Siamese Masked Autoencoders},
  author    = {Gupta, Agrim and Wu, Jiajun and Deng, Jia and Fei-Fei, Li},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023}
}"""


def model_card(encoder: Encoder, *, address: str = "path/to/this/folder", picture: str | None = None) -> str:
    """The card of an encoder, from its metadata.

    Of the metadata it reads `licence`, `base_model` (a repo on the Hub), `base`, `data` and `results` (Markdown), `training` or
    `source` (how the weights came to be), and `evaluations`, a list of what `evaluation_entry` gives.

    Args:
        address: what `load_model` takes to load it.
        picture: file name of its loss curve.
    """
    known = encoder.metadata
    licence = known.get("licence")
    sections = {
        "Use": _use(address),
        "Intended use and limits": _limits(known),
        "Results": _results(known),
        **({"Base model": str(known["base"])} if known.get("base") else {}),
        "Data": str(known.get("data") or "Not stated."),
        "Training": _training(known, picture),
        "Licence": f"{licence or 'Not stated'}. The code that loads the weights, siammae, is under the Apache License 2.0.",
        "Citation": f"The method (arXiv:2305.14344):\n\n```bibtex\n{CITATION}\n```",
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in sections.items())
    return f"{_front_matter(encoder)}\n# {encoder.name}\n\n{_summary(encoder)}\n\n{body}\n"


def evaluation_entry(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What a card needs of the scores.json that `siammae evaluate` wrote."""
    seen = scores["protocol"]["input"]
    return {
        "dataset": scores["dataset"],
        "sequences": len(scores["sequences"]),
        "protocol": scores["protocol"]["name"],
        "input": " x ".join(map(str, seen)) if isinstance(seen, list) else str(seen),
        "metric": scores["headline"]["name"],
        "value": round(100 * scores["headline"]["value"], 2),
        "siammae": scores["siammae"],
        "date": scores["date"],
        "weights_sha256": scores["weights_sha256"],
    }


def _front_matter(encoder: Encoder) -> str:
    """The YAML that the Hub reads; every value is JSON, which YAML includes."""
    known = encoder.metadata
    lines = ["library_name: siammae", "pipeline_tag: image-feature-extraction"]
    lines += [f"license: {known['licence']}"] if known.get("licence") else []
    lines += [f"base_model: {known['base_model']}"] if known.get("base_model") else []
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    entries: Sequence[Mapping[str, Any]] = known.get("evaluations") or []
    if entries:
        lines += ["model-index:", f"- name: {json.dumps(encoder.name)}", "  results:"]
    for entry in entries:
        task = {"type": "image-feature-extraction", "name": "Label propagation"}
        dataset = {"type": entry["dataset"], "name": f"{entry['dataset']}, {entry['sequences']} sequences"}
        metric = {"type": entry["metric"], "value": entry["value"], "name": f"{entry['metric']}, {entry['protocol']} protocol"}
        lines.append(f"  - task: {json.dumps(task)}\n    dataset: {json.dumps(dataset)}\n    metrics: [{json.dumps(metric)}]")
    return "\n".join(["---", *lines, "---", ""])


def _summary(encoder: Encoder) -> str:
    method = (encoder.metadata.get("training") or encoder.metadata.get("source") or {}).get("method")
    pretrained = f", pretrained by {method} on unlabelled images or video" if method else ""
    return (
        f"A dense feature extractor for video correspondence and label propagation: {encoder.architecture}, patch "
        f"{encoder.patch_size}, {encoder.depth} blocks, {encoder.embed_dim} channels, {encoder.num_parameters:,} parameters"
        f"{pretrained}. With [siammae](https://pypi.org/project/siammae) it carries masks, parts and keypoints of one frame "
        f"through a whole video; frames are encoded at a shorter side of {encoder.default_size} pixels by default."
    )


def _use(address: str) -> str:
    return f"""```python
import siammae

model = siammae.load_model({json.dumps(address)})
masks = siammae.propagate_labels("video.mp4", "mask-of-the-first-frame.png", model)  # [frames, height, width]
```

`timm.create_model` loads it too, from the Hub or as `local-dir:FOLDER`."""


def _limits(known: Mapping[str, Any]) -> str:
    text = (
        "For following objects, parts and points that are marked in one frame, and as dense features for research. It finds no "
        "objects by itself, knows no classes, and was not trained to tell people apart. What moves fast, is hidden for long or "
        "looks like its surroundings may be lost, without a sign in the masks; check them before anything depends on them."
    )
    return f"{text}\n\n{known['limits']}" if known.get("limits") else text


def _results(known: Mapping[str, Any]) -> str:
    entries: Sequence[Mapping[str, Any]] = known.get("evaluations") or []
    parts = [str(known["results"]).strip()] if known.get("results") else []
    if entries:
        head = "| data set | sequences | protocol | frames encoded at | metric | value |\n|---|---|---|---|---|---|\n"
        rows = "\n".join(
            f"| {entry['dataset']} | {entry['sequences']} | {entry['protocol']} | {entry['input']} | {entry['metric']} "
            f"| {entry['value']:g} |"
            for entry in entries
        )
        dates = ", ".join(sorted({f"siammae {entry['siammae']}, {entry['date']}" for entry in entries}))
        parts.append(f"{head}{rows}\n\nPrinted by `siammae evaluate` ({dates}).")
    return "\n\n".join(parts) or "None measured yet."


def _training(known: Mapping[str, Any], picture: str | None) -> str:
    """How the weights came to be, as a table."""
    facts = dict(known.get("training") or known.get("source") or {})
    if not facts:
        return "Not stated."
    model = facts.pop("model", None) or {}
    rows = [(key.replace("_", " "), value) for key, value in {**facts, **model}.items() if value is not None]
    table = "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows)
    if known.get("decoder_training"):
        decoder = known["decoder_training"]
        table += (
            f"\n\nThe decoder in `decoder.safetensors` was trained afterwards, on the same data with the encoder as it is, for "
            f"{decoder['steps']} steps ({decoder['minutes']} minutes), to a loss of {decoder['loss']:.3f}. It shows what the "
            "features hold (`siammae reconstruct`); propagation does not need it."
        )
    return f"![loss on masked patches over steps]({picture})\n\n{table}" if picture else table

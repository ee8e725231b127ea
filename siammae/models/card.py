"""Model cards: the README.md of a model folder, made by the template `card.md` from an encoder's metadata."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siammae.encoder import Encoder

TEMPLATE = Path(__file__).with_name("card.md")
TAGS = "siamese-mae", "video", "correspondence", "label-propagation", "timm"


def model_card(encoder: Encoder, *, picture: str | None = None) -> str:
    """Write the card of an encoder.

    It shows these keys of the encoder's `metadata`, none of which is required: `license`; `data`, `results`, `limits` and
    `changes` (Markdown); `base_model` (the Hub's repo, owner/name, from which the weights are derived); `source` (facts about
    the file they were made from); `training` (facts about how they were trained); `decoder_training`; and `evaluations`, a
    list of `evaluation_entry`.

    Args:
        encoder: the encoder.
        picture: file name of its loss curve.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    known = encoder.metadata
    entries: Sequence[Mapping[str, Any]] = known.get("evaluations") or []
    training = dict(known.get("training") or {})
    training |= training.pop("model", None) or {}
    results = [
        EvalResult(
            task_type="image-feature-extraction",
            task_name="Label propagation",
            dataset_type=entry["dataset"],
            dataset_name=f"{entry['dataset']}, {entry['sequences']} sequences",
            metric_type=entry["metric"],
            metric_name=f"{entry['metric']}, {entry['protocol']} protocol",
            metric_value=entry["value"],
        )
        for entry in entries
    ]
    data = ModelCardData(
        library_name="siammae",
        pipeline_tag="image-feature-extraction",
        license=known.get("license"),
        base_model=known.get("base_model"),
        tags=list(TAGS),
        model_name=encoder.name if results else None,
        eval_results=results or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        encoder=encoder,
        known=known,
        evaluations=entries,
        measured=sorted({f"siammae {entry['siammae']}, {entry['date']}" for entry in entries}),
        source=known.get("source") or {},
        training=training,
        picture=picture,
    )
    return f"{card}\n"


def evaluation_entry(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card needs from the scores.json that `siammae evaluate` wrote."""
    size = scores["protocol"]["input"]
    return {
        "dataset": scores["dataset"],
        "sequences": len(scores["sequences"]),
        "protocol": scores["protocol"]["name"],
        "input": " x ".join(map(str, size)) if isinstance(size, list) else str(size),
        "metric": scores["headline"]["name"],
        "value": round(100 * scores["headline"]["value"], 2),
        "siammae": scores["siammae"],
        "date": scores["date"],
        "weights_sha256": scores["weights_sha256"],
    }

"""The page of a model on the Hugging Face Hub, made of its card: YAML front matter, then Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from service.contract.cards import ModelCard

_LICENSES = {
    "MIT": "mit",
    "MIT (Expat)": "mit",
    "Apache-2.0": "apache-2.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC0-1.0": "cc0-1.0",
}
"""The Hub's own names of licences; any other is `other` with its name."""


def page(card: ModelCard, *, sample: bool) -> str:
    """The text of ``README.md``.

    Args:
        card: of the model.
        sample: whether there is a picture beside it.
    """
    parts = [
        f"# {card.title or card.name}",
        "![What it makes](sample.png)" if sample else "",
        card.description,
        _use(card),
        _tasks(card),
        _measured(card),
        _bullets("Known weaknesses", card.known_weaknesses),
        _training(card),
        f"## Licence\n\n{card.license}\n\n{card.notice}".strip() if card.license else "",
        "The weights are safetensors, and `card.json` holds their SHA-256: nothing is unpickled.",
    ]
    return f"---\n{front_matter(card)}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def front_matter(card: ModelCard) -> str:
    """What the Hub reads of the page. Texts are JSON, which YAML understands."""
    license = _LICENSES.get(card.license)
    lines = [
        "library_name: coopserve",
        f"license: {license or 'other'}",
        *([] if license or not card.license else [f"license_name: {_text(card.license)}"]),
        f"pipeline_tag: {_pipeline(card)}",
        f"tags: {_text(['coopserve', 'energy-based-model', card.system, *card.tasks])}",
        *_model_index(card),
    ]
    return "\n".join(lines) + "\n"


def numbers(metrics: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of nested metrics, by their path: ``generated.kid``."""
    for name, value in metrics.items():
        path = f"{head}.{name}" if head else name
        if isinstance(value, Mapping):
            yield from numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)


def _model_index(card: ModelCard) -> list[str]:
    found = list(numbers(card.metrics))
    if not found:
        return []
    data = str((card.training.get("data") or {}).get("name") or "unknown")
    lines = [
        "model-index:",
        f"- name: {_text(card.name)}",
        "  results:",
        "  - task:",
        f"      type: {_pipeline(card)}",
        "    dataset:",
        f"      name: {_text(data)}",
        f"      type: {_text(data)}",
        "    metrics:",
    ]
    for name, value in found:
        lines += [f"    - type: {_text(name)}", f"      value: {_number(value)}"]
    return lines


def _pipeline(card: ModelCard) -> str:
    return "unconditional-image-generation" if "generate" in card.tasks else "image-to-image"


def _use(card: ModelCard) -> str:
    task = next(iter(card.tasks), "generate")
    return (
        "## Use\n\nWith coopserve and a copy of this folder:\n\n"
        f"```sh\ncoopserve models import FOLDER\ncoopserve serve\n```\n\n"
        f"```python\nfrom coopserve.client import Client\n\n"
        f'with Client("http://127.0.0.1:8000") as client:\n    result = client.run("{task}", model="{card.name}")\n```'
    )


def _tasks(card: ModelCard) -> str:
    shape = f"{card.image.width} x {card.image.height} pixels, {'grey' if card.image.channels == 1 else 'colour'}"
    classes = f"\n\nClasses: {', '.join(card.classes)}." if card.classes else ""
    rows = [f"| `{name}` | {task.defaults.steps} | {task.limits.max_steps} |" for name, task in card.tasks.items()]
    table = "\n".join(["| task | steps | at most |", "|---|---|---|", *rows])
    return f"## What it does\n\nImages of {shape}.{classes}\n\n{table}"


def _measured(card: ModelCard) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in numbers(card.metrics)]
    return "\n".join(["## Measured", "", "| metric | value |", "|---|---|", *rows]) if rows else ""


def _training(card: ModelCard) -> str:
    facts = {name: card.training.get(name) for name in ("command", "iterations", "seed", "device")}
    data = card.training.get("data") or {}
    lines = [f"data: {data.get('name')}, {data.get('images')} images"] if data.get("name") else []
    lines += [f"{name}: `{value}`" for name, value in facts.items() if value is not None]
    return _bullets("How it was trained", lines)


def _bullets(heading: str, lines: list[str]) -> str:
    return "\n".join([f"## {heading}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """A number as every version of YAML reads it: with a point, and without an exponent."""
    return f"{value:.8f}".rstrip("0") + ("0" if f"{value:.8f}".rstrip("0").endswith(".") else "")

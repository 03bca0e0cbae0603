"""Prompts: which classes of a model a text names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from service.contract.errors import invalid

_WEIGHT = r"(?:(?P<weight>\d{1,6}(?:\.\d{1,6})?)\s*(?:%|[*x×:])?\s*)?"


def label_of(prompt: str, classes: Sequence[str], ref: str) -> dict[str, float] | None:
    """The classes that a prompt names, with their weights: the label of a request.

    A class is named by its name, or by one of the names that it joins with a slash (``T-shirt/top``), in whole words
    anywhere in the text. Several make a mix, in equal parts or as numbers before them say: ``3 coat + 1 bag``.

    Args:
        prompt: the text.
        classes: of the model.
        ref: what messages call the model.

    Returns:
        None for a text without a word: the seed chooses.

    Raises:
        UnprocessableError: it names no class.
    """
    text = prompt.strip()
    if not text:
        return None
    names = _names(classes)
    if (whole := names.get(text.casefold())) is not None:
        return {whole: 1.0}
    longest_first = "|".join(map(_pattern, sorted(names, key=len, reverse=True)))
    found: Counter[str] = Counter()
    for match in re.finditer(rf"(?<!\w){_WEIGHT}(?P<name>{longest_first})(?:e?s)?(?!\w)", text, re.IGNORECASE):
        name = re.sub(r"[\s_-]+", " ", match["name"]).casefold()
        known = next(known for known in names if re.sub(r"[\s_-]+", " ", known) == name)
        found[names[known]] += float(match["weight"] or 1.0)  # type: ignore[assignment]  # weights need not be whole
    if not found:
        shown = ", ".join(classes[:50])
        raise invalid("prompt", f"{ref} draws classes, and the prompt names none of them: {shown}")
    return dict(found)


def prompt_of(label: Mapping[str, float]) -> str:
    """A label as a prompt that names it."""
    if len(label) == 1:
        return next(iter(label))
    return " + ".join(f"{weight:.3g} {name}" for name, weight in label.items())


def _names(classes: Sequence[str]) -> dict[str, str]:
    """Each class by what it may be called, in lower case; what would mean two of them is left out."""
    meant = Counter(part.casefold() for name in classes for part in {*name.split("/"), name})
    parts = {part.strip().casefold(): name for name in classes for part in name.split("/")}
    own = {name.casefold(): name for name in classes}
    return {**{part: name for part, name in parts.items() if part and meant[part] == 1}, **own}


def _pattern(name: str) -> str:
    """A name in a text: words may be joined by a space, a hyphen or an underscore."""
    return r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", name))

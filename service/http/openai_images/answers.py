"""Answers of OpenAI's images API, and the events of its streams."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, Field

from service.contract.jobs import JobRecord
from service.http.openai_images.prompts import prompt_of


class ImageEntry(BaseModel):
    """One image."""

    b64_json: str | None = Field(None, description="The file in base64, unless addresses were asked for.")
    url: str | None = Field(None, description="Its address, if that was asked for.")
    revised_prompt: str | None = Field(None, description="What the prompt was taken for: the class, or the mix.")
    seed: int = Field(description="Its seed: with `n` 1 the same image again.")
    energy: float | None = Field(None, description="Lower is more typical; null where the method has no energy.")


class ImagesAnswer(BaseModel):
    """Finished images."""

    created: int = Field(description="When they were made, in seconds since 1970.")
    data: list[ImageEntry] = Field(description="The images.")
    background: str = Field("opaque", description="Always opaque.")
    output_format: str = Field(description="Format of the files.")
    size: str = Field(description="WIDTHxHEIGHT of each.")
    model: str = Field(description="Which model made them, as name@version.")
    job: str = Field(description="Address of the job's record.")
    warnings: list[str] = Field(description="What was unusual, in sentences.")


def created(record: JobRecord) -> int:
    """When a job has ended, in seconds since 1970."""
    return int(record.finished_at.timestamp() if record.finished_at else time.time())


def revised(record: JobRecord) -> str | None:
    """What the prompt was taken for."""
    label = record.params.get("label")
    return prompt_of(label) if isinstance(label, dict) and label else None


def size_of(record: JobRecord, scaled_to: tuple[int, int] | None) -> str:
    """WIDTHxHEIGHT of the images of an answer."""
    whole = [(output.width, output.height) for output in record.outputs if output.width]
    width, height = scaled_to or next(iter(whole), (0, 0))
    return f"{width}x{height}"


_NO_TOKENS: dict[str, Any] = {"image_tokens": 0, "text_tokens": 0}
USAGE: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": _NO_TOKENS}
"""Nothing here has tokens, but clients look for them."""

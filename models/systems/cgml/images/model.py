"""A trained cGML, frozen for serving. No kernel here can be given a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.predicted import beginning, walk_rows, walking
from models.serving import served
from models.systems.cgml.coder import Coder
from models.systems.cgml.images.config import Config
from models.systems.cgml.images.forms import of_colour, of_grey, with_hole
from models.systems.cgml.predictor import Predictor
from models.systems.cgml.variation import varying
from models.systems.frame import Frame
from models.systems.weights import fill, frozen, nbytes


@final
class Cgml:
    """H, G and Z with their kernels, which are built once so that all jobs of the model share them.

    ``encode`` adds to one condition ``c`` what all its rows share: the bottleneck ``vector``, the code ``h``, its
    ``skip`` maps, and ``a``, the half of Z's first layer that depends on h. ``begin`` adds a start ``z``, ``walk``
    moves it, ``render`` adds the ``image``, and ``vary`` gathers how images around a latent differ.

    Args:
        config: sizes and the task.
        coder: H and G.
        predictor: Z.
        calibration: what ``calibration.calibrate`` measured; may be empty.
        device: where the rows live.
    """

    def __init__(
        self,
        config: Config,
        coder: Coder,
        predictor: Predictor,
        calibration: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.config, self.calibration, self.device = config, calibration, device
        self.coder, self.predictor = frozen(coder, device), frozen(predictor, device)
        frame = Frame(config)
        self.padded, self.cropped = frame.padded, frame.cropped
        network = config.network
        domain, self._d = network.where(), network.latent
        c = self._ramp(config.channels_in)
        self._code = served(self._encoded, c)
        shared = self._shared(c)
        self.shared_names = tuple(shared)
        self._shapes = {name: value.shape[1:] for name, value in shared.items()}
        z = domain.retract(torch.linspace(-1, 1, self._d, device=device)[None])
        self._moves = served(self._moved, z, shared["a"])
        self._image = served(self._made, z, {name: shared[name] for name in self._drawn_from})
        self.encode: Kernel = self._encode
        self.begin: Kernel = beginning(domain, self._d)
        self.walk: Kernel = walking(self._predicted, domain)
        self.render: Kernel = self._render
        self.vary: Kernel = varying(lambda rows: self._image(rows["z"], rows), domain)

    @property
    def nbytes(self) -> int:
        weights = [*self.coder.state_dict().values(), *self.predictor.state_dict().values()]
        return nbytes(weights, self._code, self._moves, self._image)

    # Conditions

    def condition(self, image: Tensor, hidden: Tensor | None = None) -> Tensor:
        """A picture as H takes it, ``[1, Cc, H, W]``: a condition image, one to colour, or an image with its mask."""
        given = self.padded(image.to(self.device)[None])
        if self.config.task == "colorize":
            return of_grey(given) if given.shape[1] == 1 else of_colour(given)[0]
        if self.config.task == "inpaint":
            none = torch.zeros_like(given[:, :1])
            mask = none if hidden is None else self.padded(hidden.to(self.device)[None], 0.0)
            return with_hole(given, mask, self.config.hole)
        return given

    # What the networks give

    def _encoded(self, c: Tensor) -> Tensor:
        """All that H gives and a, joined: one tensor is what a served function gives."""
        code = self.coder.encode(c)
        parts = [code.vector, self.predictor.given(code.h), code.h, *code.skips]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _shared(self, c: Tensor) -> Rows:
        """The same by name."""
        network = self.config.network
        shapes: dict[str, tuple[int, ...]] = {
            "vector": (network.bottleneck,),
            "a": (network.hidden,),
            "h": network.code,
        }
        side = network.side
        for k, width in enumerate(network.stem[:-1] if network.kind == "images" else ()):
            side //= 2
            shapes[f"skip{k}"] = (width, side, side)
        with torch.no_grad():
            parts = self._code(c).split([math.prod(shape) for shape in shapes.values()], 1)
        return {name: part.reshape(-1, *shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    @property
    def _drawn_from(self) -> list[str]:
        return [name for name in self.shared_names if name == "h" or name.startswith("skip")]

    def _moved(self, z: Tensor, a: Tensor) -> Tensor:
        delta, rho = self.predictor.moves(z, a)
        return torch.cat([delta, rho[:, None]], 1)

    def _predicted(self, rows: Rows) -> tuple[Tensor, Tensor]:
        both = self._moves(rows["z"], rows["a"])
        return both[:, :-1], both[:, -1]

    def _made(self, z: Tensor, code: Mapping[str, Tensor]) -> Tensor:
        skips = [value for name, value in code.items() if name != "h"]
        return self.coder.make(code["h"], z, skips)

    # Kernels

    def _encode(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        return {**rows, **self._shared(rows["c"])}

    def _render(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        with torch.no_grad():
            return {**rows, "image": self._image(rows["z"], rows)}

    def resampled(self, sampler: Callable[[Callable[[Rows], Tensor]], Kernel]) -> dict[Kernel, Kernel]:
        return {}  # no kernel climbs the value of an image

    def examples(self) -> Sequence[tuple[Kernel, Rows]]:
        c = self._ramp(self.config.channels_in)
        shared = self._shared(c)
        z = self.config.network.where().retract(torch.linspace(-1, 1, self._d, device=self.device)[None])
        drawn = {"z": z, **{name: shared[name] for name in self._drawn_from}}
        blank = torch.zeros(1, self.config.channels_out, self.config.size, self.config.size, device=self.device)
        return [
            (self.encode, {"c": c}),
            (self.begin, {"a": shared["a"]}),
            (self.walk, {**walk_rows(z, alpha=1.0, pushed=1), "a": shared["a"]}),
            (self.render, drawn),
            (self.vary, {**drawn, "delta": torch.ones(1, 1, device=self.device), "mean": blank, "spread": blank}),
        ]

    def drawn_from(self, code: Rows) -> Rows:
        """Of what a condition's rows share, that which G takes."""
        return {name: code[name] for name in self._drawn_from}

    def _ramp(self, channels: int) -> Tensor:
        size = self.config.size
        return torch.linspace(-1, 1, channels * size**2, device=self.device).reshape(1, channels, size, size)


def load(card: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> Cgml:
    """Build the model of a checkpoint.

    Raises:
        KeyError, ValueError: the card lacks something, or the tensors are not those of the configuration.
    """
    config = Config.model_validate(card["config"])
    coder = Coder(config.network, config.channels_in, config.channels_out)
    predictor = Predictor(config.network)
    fill({"encoder": coder.encoder, "generator": coder.generator, "predictor": predictor}, tensors)
    return Cgml(config, coder, predictor, card.get("calibration") or {}, device)

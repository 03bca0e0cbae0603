"""Cooperative training of the flow and the energy (Algorithm 1 of the CoopFlow paper), with what comes before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.core.loop import RowsError, run
from models.data.images import ImageData
from models.data.kinds import Data, one_set
from models.networks.flow.images import bits_per_dimension
from models.networks.flow.steps import Step
from models.samplers.langevin import langevin
from models.systems.coopflow.chain import bounded_numbers, proposed_and_refined, proposing
from models.systems.coopflow.config import Config, noise_share
from models.systems.coopflow.pair import Pair, Phase
from models.systems.frame import fitted, prepared
from models.training.draws import Draws, Purpose
from models.training.learner import copied, frozen

SHEET = 8
"""Rows and columns of a sheet of samples: proposals above, refined ones below."""
_CHUNK = 250
_LOOK = 100
"""Iterations between two looks at the flow itself, which cost a forward and an inverse pass."""
_LOOKED = 8


class CoopFlowTrainer:
    """The training of a pair.

    Args:
        config: fitted to the data.
        data: the observed images.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        self.config, self.draws, self.device = config, Draws(seed), device
        self.images = data.images
        self.pair = Pair(config, self.draws, device)
        self._langevin = langevin(lambda rows: self.pair.f(rows["y"]))
        self._propose = proposing(lambda z: self.pair.flow.network.propose(z), config.channels, config.size)

    # One iteration

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One iteration of the phase. Where a guard objects nothing is changed but what the guards remember."""
        steps: dict[Phase, Callable[[int, float, int], dict[str, float]]] = {
            Phase.NORMS: self._fit_norms,
            Phase.FLOW: self._learn_flow,
            Phase.WARM_UP: self._cooperate,
            Phase.COOPERATION: self._cooperate,
        }
        phase = self.pair.phase
        metrics = steps[phase](iteration, lr_scale, salt)
        self.pair.advance()
        return {"phase": float(phase), **metrics}

    def _fit_norms(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """By one forward pass of real images, never by an inverse one, which would fit them to latents."""
        del lr_scale
        n = min(self.config.training.norm_images, len(self.images))
        images = self._observed(n, iteration, salt)
        self.pair.flow.network.eval().fit(images, self._dequantisation(images, iteration, salt))
        return {"norm_images": float(n)}

    def _learn_flow(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        images = self._observed(self.config.training.batch_size, iteration, salt)
        metrics = self.pair.flow_gradients(images, self._dequantisation(images, iteration, salt))
        return self._applied(metrics, None, lr_scale) | self._flow_figures(images)

    def _cooperate(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """Propose, refine with theta frozen, then both gradients; in the warm-up the energy's alone."""
        n, pair = self.config.training.batch_size, self.pair
        real = self._observed(n, iteration, salt)
        seeds = self.draws.rows(n, Purpose.CHAIN, iteration, salt)
        try:
            proposal, made, cut = self._chain(seeds, self.config.chain.delta, self._noise())
        except RowsError:
            pair.note_broken(True)
            return {"skipped": 1.0}
        metrics = pair.energy_gradients(self._with_noise(real, iteration, salt), made)
        turn = pair.done % self.config.training.flow_every == 0
        if pair.phase is Phase.COOPERATION and turn:
            metrics |= pair.flow_gradients(made, self._dequantisation(made, iteration, salt))
        metrics |= _measures(real, proposal, made) | {"cut": cut}
        return self._applied(metrics, self._steep(metrics), lr_scale) | self._flow_figures(real)

    def _applied(self, metrics: dict[str, float], steep: str | None, lr_scale: float) -> dict[str, float]:
        """The metrics, after the update or the decision against it.

        An energy that is too steep goes on learning, for updates are what makes it flatter; if it stays so, the
        training goes back.
        """
        broken = self.pair.objection(metrics)
        self.pair.note_broken(broken is not None)
        self.pair.steep = self.pair.steep + 1 if steep else 0
        if broken is None:
            self.pair.update(metrics, lr_scale)
            return {**metrics, "skipped": 0.0}
        # A skipped iteration has an explanation in its numbers; those that are not finite would end the training.
        return {k: v for k, v in metrics.items() if v == v and abs(v) != float("inf")} | {"skipped": 1.0}

    def _steep(self, metrics: Mapping[str, float]) -> str | None:
        guards = self.config.training.guards
        if metrics["cut"] > guards.cut:
            return "the drift is cut"
        if metrics["saturated"] - metrics["saturated_data"] > guards.saturated:
            return "pixels are saturated"
        return None

    def _chain(self, seeds: list[int], delta: float, noise: float) -> tuple[Tensor, Tensor, float]:
        """Proposals, their refinement, and the share of drift that was cut in the last step.

        Raises:
            RowsError: the chain has diverged.
        """
        chain = self.config.chain
        rows = bounded_numbers(len(seeds), delta, chain.drift, noise, self.device)
        self.pair.flow.network.eval()  # proposals without dropout
        with frozen(self.pair.energy.network):
            task = proposed_and_refined(self._propose, self._langevin, rows, chain.steps, seeds)
            proposal, after = run(task, device=self.device)
        return proposal, after["y"].detach(), float(after["cut"].mean())

    def _noise(self) -> float:
        """The standard deviation of the noise of this iteration's chains."""
        t, epoch = self.config.training, self.pair.done * self.config.training.batch_size / len(self.images)
        return self.config.chain.delta * noise_share(epoch, t.noise_epochs)

    # Data

    def _observed(self, n: int, *keys: int) -> Tensor:
        chosen = self.draws.index(len(self.images), n, Purpose.DATA, *keys)
        images = prepared(self.images[chosen], self.config, self.config.size)
        if self.config.training.flip:
            flipped = torch.rand(len(images), 1, 1, 1, generator=self.draws.generator(Purpose.FLIP, *keys)) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        return images.to(self.device)

    def _with_noise(self, images: Tensor, *keys: int) -> Tensor:
        scale = self.config.training.data_noise
        if not scale:
            return images
        noise = torch.randn(images.shape, generator=self.draws.generator(Purpose.DATA_NOISE, *keys))
        return (images + scale * noise.to(self.device)).clamp(-1, 1)

    def _dequantisation(self, images: Tensor, *keys: int) -> Tensor:
        """The noise with which the flow sees images."""
        draw = torch.rand if self.config.flow.dequantisation == "uniform" else torch.randn
        return draw(images.shape, generator=self.draws.generator(Purpose.DEQUANTISATION, *keys)).to(self.device)

    # Guards

    def _flow_figures(self, images: Tensor) -> dict[str, float]:
        """Now and then: how the flow is."""
        if self.pair.done % _LOOK:
            return {}
        network, few = self.pair.flow.network.eval(), images[:_LOOKED]
        with torch.no_grad():
            z, density = network.latent(few)
            back = network.propose(z)
        steps = [module for module in network.modules() if isinstance(module, Step)]
        return {
            "round_trip": float((back - few).abs().max()),
            "bits_data": float(bits_per_dimension(density.mean(), few[0].numel())),
            "least_log_scale": min((float(step.norm.log_scale.detach().min()) for step in steps), default=0.0),
        }

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration
        limit = self.config.training.guards.round_trip
        if metrics.get("round_trip", 0.0) > limit:
            return f"the flow is not invertible any more (round trip {metrics['round_trip']:.3g} > {limit:g})"
        return self.pair.hopeless()

    # Stages and state

    @property
    def stage(self) -> int:
        return int(self.pair.phase)

    def leave_stage(self) -> bool:
        """Go on to the next phase as it is. The norms are always fitted before the first one is left."""
        if self.pair.phase is Phase.COOPERATION:
            return False
        if not self.pair.flow.network.fitted:
            self._fit_norms(0, 1.0, 0)
        self.pair.enter_next()
        return True

    def state(self) -> dict[str, Tensor]:
        return self.pair.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.pair.load_state(state)

    # The model

    def export(self) -> dict[str, Tensor]:
        networks = {"flow": self.pair.flow.network, "energy": self.pair.energy.network}
        return copied({f"{name}.{k}": v for name, net in networks.items() for k, v in net.state_dict().items()})

    def draw(self, n: int) -> Tensor | None:
        """n images of the model as it is in its phase: proposals until the energy learns, then refined ones."""
        if not self.pair.flow.network.fitted:
            return None
        keys = self.draws.rows(n, Purpose.DRAW)
        place = 1 if self.pair.phase >= Phase.WARM_UP else 0
        parts = [self._drawn(keys[k : k + _CHUNK])[place] for k in range(0, n, _CHUNK)]
        return torch.cat(parts)

    def _drawn(self, seeds: list[int]) -> tuple[Tensor, Tensor]:
        proposal, made, _ = self._chain(seeds, self.config.chain.delta_test, 0.0)
        return proposal.cpu(), made.cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded to the size of the networks."""
        return fitted(images, self.config, self.config.size)

    def samples(self) -> Tensor:
        """Four rows of proposals over what became of them."""
        if not self.pair.flow.network.fitted:
            return torch.zeros(SHEET, SHEET, self.config.channels, self.config.size, self.config.size)
        proposal, made = self._drawn(self.draws.rows(SHEET * SHEET // 2, Purpose.DRAW))
        return torch.cat([part.unflatten(0, (-1, SHEET)) for part in (proposal, made)])


def _measures(real: Tensor, proposal: Tensor, made: Tensor) -> dict[str, float]:
    """How far the chain goes, and how contrast and saturation compare with the data's."""
    return {
        "move": float((made - proposal).square().mean().sqrt()),
        "contrast": float(proposal.std() / real.std().clamp_min(1e-6)),
        "contrast_refined": float(made.std() / real.std().clamp_min(1e-6)),
        "saturated": float((made.abs() >= 1).float().mean()),
        "saturated_data": float((real.abs() >= 1).float().mean()),
    }


def make_trainer(config: Config, data: Data, seed: int, device: torch.device) -> CoopFlowTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return CoopFlowTrainer(config, one_set(data).fit(config.image_size, config.channels), seed, device)

"""Cooperative training of the flow and the energy (Algorithm 1 of the CoopFlow paper), with what comes before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from models.core.loop import Kernel, run
from models.core.noise import Noise, folded
from models.data.images import ImageData
from models.data.kinds import Data, one_set
from models.networks.flow.images import ImageFlow, bits_per_dimension
from models.networks.flow.steps import Step, solved
from models.samplers.langevin import langevin
from models.systems.coopflow.batches import Batches
from models.systems.coopflow.chain import blanked, bounded_numbers, noise_start, proposed_and_refined, proposing
from models.systems.coopflow.config import Config, noise_share
from models.systems.coopflow.pair import Pair, Phase, value_of
from models.systems.frame import fitted
from models.training.capture import Replayed
from models.training.draws import Draws, Purpose
from models.training.learner import copied, frozen
from models.training.readings import due
from models.training.team import ALONE, Team

SHEET = 8
"""Rows and columns of a sheet of samples: proposals above, refined ones below."""
_CHUNK = 250
_LOOK = 100
"""Iterations between two looks at the flow itself, which cost a forward and an inverse pass."""
_LOOKED = 8
_SHORTEST_EPOCH = 200
"""Iterations whose mean bits are held against those of others; fewer would differ by chance."""


class CoopFlowTrainer:
    """The training of a pair.

    Args:
        config: fitted to the data.
        data: the observed images.
        seed: everything random is a function of it and of the iteration.
        device: where the networks are trained.
        team: the processes that train them.

    Raises:
        ValueError: several processes can't train it.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device, team: Team = ALONE) -> None:
        if team.size > 1 and config.flow.dropout:
            raise ValueError("dropout is drawn for a batch as a whole, so it can't be divided: set flow.dropout to 0")
        self.config, self.draws, self.device, self.team = config, Draws(seed), device, team
        self.batches = Batches(config, data, self.draws, device)
        self.pair = Pair(config, self.draws, device, team)
        self._epoch = max(len(data) // config.training.batch_size, _SHORTEST_EPOCH)
        self._given = self.batches.given(config.training.batch_size, 0, 0)
        self._prepared: dict[tuple[Phase, bool], Replayed[dict[str, Tensor]]] = {}

    # One iteration

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """One iteration of the phase. Where a guard objects nothing is changed but what the guards remember.

        On a GPU an iteration is a replayed graph, and most are not looked at: they return nothing.
        """
        phase = self.pair.phase
        found = self._fit_norms(iteration, salt) if phase is Phase.NORMS else self._iterate(iteration, lr_scale, salt)
        figures = self._flow_figures() if self.pair.done % _LOOK == 0 else {}
        if phase is Phase.COOPERATION and (self.pair.done + 1) % self._epoch == 0:
            self.pair.guards.end_epoch()
        self.pair.advance(last=iteration + 1 == self.config.training.iterations)
        if not figures and not due(self.device, iteration, self.config.training.iterations):
            return {}
        return {"phase": float(phase), **_read(found), **figures}

    def _iterate(self, iteration: int, lr_scale: float, salt: int) -> dict[str, Tensor]:
        t = self.config.training
        alone = self.pair.phase is Phase.FLOW
        cooled = t.cooled(self.pair.done, t.flow_iterations) if alone else t.cooled(iteration, t.iterations)
        self.pair.schedule(lr_scale * cooled)
        self._given.overwrite(self.batches.given(t.batch_size, iteration, salt))
        with solved(self.pair.flow.network) if self.device.type != "cpu" else nullcontext():
            return self._procedure()()

    def _procedure(self) -> Replayed[dict[str, Tensor]]:
        """The iteration of this phase. Graphs of other phases are let go, for each holds the memory of an iteration."""
        t, pair = self.config.training, self.pair
        turn = pair.phase is Phase.COOPERATION and pair.done % t.flow_every == 0
        self._prepared = {key: made for key, made in self._prepared.items() if key[0] is pair.phase}
        if (pair.phase, turn) not in self._prepared:
            body = self._learn_flow if pair.phase is Phase.FLOW else partial(self._cooperate, turn)
            # Noise that decays is another number in each iteration, and is no noise in the end; processes of a team
            # wait for each other within one.
            as_written = t.noise_epochs or self.team.size > 1
            device = torch.device("cpu") if as_written else self.device
            self._prepared[pair.phase, turn] = Replayed(body, device)
        return self._prepared[pair.phase, turn]

    def _fit_norms(self, iteration: int, salt: int) -> dict[str, Tensor]:
        """By one forward pass of real images, never by an inverse one, which would fit them to latents."""
        n = min(self.config.training.norm_images, len(self.batches))
        given = self.batches.given(n, iteration, salt)
        images = self.batches.observed(given)
        for network in {self.pair.flow.network, self.pair.flow.served}:
            network.eval().fit(images, self.batches.dequantisation(given))
        return {"norm_images": torch.tensor(n)}

    def _learn_flow(self) -> dict[str, Tensor]:
        images = self.batches.observed(self._given)
        metrics = self.pair.flow_gradients(images, self.batches.dequantisation(self._given))
        return {**metrics, "allowed": self.pair.update(metrics)}

    def _cooperate(self, turn: bool) -> dict[str, Tensor]:
        """Propose, refine with theta frozen, then both gradients; if it is not the flow's turn the energy's alone."""
        real = self.batches.observed(self._given)
        proposal, made, cut = self.chain(real)
        metrics = self.pair.energy_gradients(self.batches.with_noise(self._given, real), made)
        if turn and self.config.training.start == "flow":
            metrics |= self.pair.flow_gradients(made, self.batches.dequantisation(self._given))
        metrics |= _measures(real, proposal, made) | {"cut": cut}
        return {**metrics, "allowed": self.pair.update(metrics)}

    def chain(self, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Proposals, their refinement, and the share of drift that was cut in the last step; of all processes."""
        if self.team.size == 1:
            return self._own_chain()
        cuts: list[Tensor] = []

        def own() -> Tensor:
            proposal, made, cut = self._own_chain()
            cuts.append(cut)
            return torch.stack([proposal, made], 1)

        both = self.team.together(len(real), own)
        return both[:, 0], both[:, 1], self.team.mean(cuts[0])

    def _own_chain(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same, of this process's rows.

        These are the loops of :func:`proposed_and_refined`, driven without a look at the rows: a GPU does not wait.
        """
        chain, seeds = self.config.chain, self.team.own(self.batches.seeds(self._given))
        rows = bounded_numbers(len(seeds), chain.delta, chain.drift, self._chain_noise(), self.device)
        if not self.config.training.noise_epochs:
            rows.pop("tau", None)
        flow, energy = self.pair.flow.network.eval(), self.pair.energy.network  # proposals without dropout
        t = torch.zeros_like(seeds)
        first, second = (folded([], seeds, t + loop) for loop in (0, 1))
        rows = self._started(flow)(rows, t, Noise.at(first, t))
        proposal, step = rows["y"], langevin(lambda rows: self.pair.f(rows["y"]))
        with frozen(energy, self.config.training.precision):
            for k in range(chain.steps):
                rows = step(rows, t, Noise.at(second, t + k))
        return proposal, blanked(rows)["y"].detach(), rows["cut"].mean()

    def _started(self, flow: ImageFlow) -> Kernel:
        """The kernel that makes what chains start from."""
        if self.config.training.start == "noise":
            return noise_start(self.config.channels, self.config.size)
        return proposing(flow.propose, self.config.channels, self.config.size)

    def _chain_noise(self) -> float:
        """The standard deviation of the noise of this iteration's chains."""
        t, epoch = self.config.training, self.pair.done * self.config.training.batch_size / len(self.batches)
        return self.config.chain.delta * noise_share(epoch, t.noise_epochs)

    # Guards

    def _flow_figures(self) -> dict[str, float]:
        """How the flow is."""
        few = self.batches.observed(self._given)[:_LOOKED]
        network = self.pair.flow.network.eval()
        with torch.no_grad(), solved(network):
            z, density = network.latent(few)
            back = network.propose(z)
        steps = [module for module in network.modules() if isinstance(module, Step)]
        return {
            "round_trip": float((back - few).abs().max()),
            "bits_data": float(bits_per_dimension(density.mean(), few[0].numel())),
            "least_log_scale": min((float(step.norm.log_scale.detach().min()) for step in steps), default=0.0),
        }

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        if self.device.type != "cpu" and not metrics:  # not looked at
            return None
        limit = self.config.training.guards.round_trip
        if metrics.get("round_trip", 0.0) > limit:
            return f"the flow is not invertible any more (round trip {metrics['round_trip']:.3g} > {limit:g})"
        return self.pair.guards.hopeless()

    # Stages and state

    @property
    def stage(self) -> int:
        return int(self.pair.phase)

    def leave_stage(self) -> bool:
        """Go on to the next phase as it is. The norms are always fitted before the first one is left."""
        if self.pair.phase is Phase.COOPERATION:
            return False
        if not self.pair.flow.network.fitted:
            self._fit_norms(0, 0)
        self.pair.enter_next()
        return True

    def state(self) -> dict[str, Tensor]:
        return self.pair.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.pair.load_state(state)

    # The model

    def export(self) -> dict[str, Tensor]:
        networks = {"flow": self.pair.flow.served, "energy": self.pair.energy.served}
        return copied({f"{name}.{k}": v for name, net in networks.items() for k, v in net.state_dict().items()})

    def draw(self, n: int) -> Tensor | None:
        """n images of the model as it is in its phase: proposals until the energy learns, then refined ones."""
        if not self.pair.flow.network.fitted:
            return None
        return self.pairs(n)[1 if self.pair.phase >= Phase.WARM_UP else 0]

    def pairs(self, n: int) -> tuple[Tensor, Tensor]:
        """n proposals, and what the chain makes of each."""
        keys = self.draws.rows(n, Purpose.DRAW)
        proposals, made = zip(*(self._drawn(keys[k : k + _CHUNK]) for k in range(0, n, _CHUNK)), strict=True)
        return torch.cat(proposals), torch.cat(made)

    def _drawn(self, seeds: list[int]) -> tuple[Tensor, Tensor]:
        chain, flow, energy = self.config.chain, self.pair.flow.served.eval(), self.pair.energy.served
        step = langevin(lambda rows: value_of(energy, rows["y"], self.config.training.precision))
        rows = bounded_numbers(len(seeds), chain.delta_test, chain.drift, 0.0, self.device)
        with frozen(energy, self.config.training.precision):
            proposal, after = run(
                proposed_and_refined(self._started(flow), step, rows, chain.steps, seeds), device=self.device
            )
        return proposal.cpu(), after["y"].detach().cpu()

    def reference(self, images: Tensor) -> Tensor:
        """Real uint8 images as :meth:`draw` gives its own: padded to the size of the networks."""
        return fitted(images, self.config, self.config.size)

    def samples(self) -> Tensor:
        """Four rows of proposals over what became of them."""
        if not self.pair.flow.network.fitted:
            return torch.zeros(SHEET, SHEET, self.config.channels, self.config.size, self.config.size)
        proposal, made = self._drawn(self.draws.rows(SHEET * SHEET // 2, Purpose.DRAW))
        return torch.cat([part.unflatten(0, (-1, SHEET)) for part in (proposal, made)])


def _measures(real: Tensor, proposal: Tensor, made: Tensor) -> dict[str, Tensor]:
    """How far the chain goes, and how contrast and saturation compare with the data's."""
    contrast = real.std().clamp_min(1e-6)
    return {
        "move": (made - proposal).square().mean().sqrt(),
        "contrast": proposal.std() / contrast,
        "contrast_refined": made.std() / contrast,
        "saturated": (made.abs() >= 1).float().mean(),
        "saturated_data": (real.abs() >= 1).float().mean(),
    }


def _read(found: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers of an iteration, in one look. A skipped one has an explanation in them; those that are not finite
    would end the training.
    """
    read = dict(zip(found, torch.stack([value.double() for value in found.values()]).tolist(), strict=True))
    if "allowed" not in read:
        return read
    skipped = 1 - read.pop("allowed")
    return {name: value for name, value in read.items() if math.isfinite(value)} | {"skipped": skipped}


def make_trainer(config: Config, data: Data, seed: int, device: torch.device, team: Team = ALONE) -> CoopFlowTrainer:
    """A fresh training of a configuration that was fitted to the data.

    Raises:
        DataError: the data are two domains.
    """
    return CoopFlowTrainer(config, one_set(data).fit(config.image_size, config.channels), seed, device, team)

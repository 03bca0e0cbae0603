"""Cooperative training of the initializer and the solver (Algorithm 1 of the CCoopNets paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.core.loop import Rows, blanked, run
from models.data.images import to_float
from models.networks.layers import initialize_as_paper
from models.samplers.langevin import langevin
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.labels.config import Config
from models.systems.ccoopnets.problem import Batch, Problem
from models.systems.ccoopnets.refinement import refined, trained_numbers
from models.training.draws import Draws, Purpose
from models.training.guards import above, first, not_finite, runaway
from models.training.learner import Learner, copied, frozen, mixed_precision, scheduled_lr
from models.training.readings import Figures, Readings
from models.training.team import ALONE, Team

_SETTLED = 200
"""Iterations before the guard on the size of the refinement's move applies: the first moves are large by nature."""


class CCoopTrainer:
    """Both networks, and the step that advances them.

    Of several processes each refines its share of the batch and the solver learns from it there. The initializer, whose
    norms and loss look at the whole batch, learns from the whole batch in all of them alike.

    Args:
        config: sizes and constants, already fitted to the data.
        problem: what is conditioned on.
        seed: everything random in the training is a function of it and of the iteration.
        device: where the networks are trained.
        team: the processes that train them.
    """

    def __init__(
        self, config: Config | ImageConfig, problem: Problem, seed: int, device: torch.device, team: Team = ALONE
    ) -> None:
        self.config, self.problem, self.draws, self.device = config, problem, Draws(seed), device
        self.team = team
        self.draws.weights()
        initializer, solver = problem.build()
        if config.training.initialization == "paper":
            initialize_as_paper(initializer)
            initialize_as_paper(solver)
        self.initializer = self._learner("initializer", initializer, config.training.lr_initializer)
        self.solver = self._learner("solver", solver, config.training.lr_solver)
        self.readings = Readings(device, config.training.iterations, self._objection)
        self._step = langevin(self._value)
        self._averaged_step = langevin(lambda rows: self.solver.served(rows["y"], rows["c"]))

    def _learner(self, name: str, network: nn.Module, lr: float) -> Learner[nn.Module]:
        t = self.config.training

        def rate(iteration: int) -> float:
            return scheduled_lr(lr, t.lr_schedule, t.lr_final, iteration, t.iterations)

        return Learner(name, network.to(self.device), rate, betas=t.betas, decay=t.ema, team=self.team)

    # One iteration

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """Algorithm 1: propose, refine with theta frozen, update the solver, then the initializer, once each.

        Nothing waits for the device but a look at the figures.
        """
        batch = self.problem.batch(iteration, salt)
        with self._precision():
            proposal = self.problem.propose(self.initializer.network, batch)
        start = proposal.detach()
        y = self.team.together(len(start), lambda: self.refine(start, batch, iteration, salt))
        figures = self._solver_losses(
            self._noisy(batch.y, iteration, salt, 0), self._noisy(y, iteration, salt, 1), batch
        )
        self.solver.update(iteration, lr_scale)
        loss = self.problem.initializer_loss(proposal, y, batch)
        self.initializer.backward(loss)
        self.initializer.update(iteration, lr_scale)
        with torch.no_grad():
            figures |= {
                "loss_initializer": loss,
                "move": (y - proposal).abs().mean(),
                "range": y.abs().max(),
                "mean_image_mse": F.mse_loss(y.mean(0), batch.y.mean(0)),
            }
        self.readings.hold(iteration, figures)
        return self.readings.read() if self.readings.due(iteration) else {}

    def _noisy(self, images: Tensor, iteration: int, salt: int, which: int) -> Tensor:
        std = self.config.training.instance_noise
        if not std:
            return images
        generator = self.draws.generator(Purpose.INSTANCE_NOISE, iteration, salt, which)
        return images + std * torch.randn(images.shape, generator=generator).to(images.device, non_blocking=True)

    def _solver_losses(self, y: Tensor, refined: Tensor, batch: Batch) -> Figures:
        """The gradients of mean f(Y~) - mean f(Y) (eq. 6), and what is worth logging.

        ``penalty`` bounds the scale of f, which the paper leaves free.
        """
        t, solver = self.config.training, self.solver.network
        c = self.team.own(batch.c)
        with self._precision():
            f_data, f_model = solver(self.team.own(y), c), solver(self.team.own(refined), c)
            terms = self.problem.solver_terms(solver, batch)
        loss = f_model.mean() - f_data.mean() + t.penalty * (f_data.square() + f_model.square()).mean()
        for term in terms.values():
            loss = loss + term
        self.solver.backward(loss)
        told = {"f_data": f_data.mean(), "f_model": f_model.mean(), "loss_solver": loss, **terms}
        means = self.team.mean(torch.stack([value.detach().float() for value in told.values()]))
        figures: Figures = dict(zip(told, means, strict=True))
        return figures | {"gap": means[0].double() - means[1].double()}

    def refine(self, y: Tensor, batch: Batch, iteration: int, salt: int) -> Tensor:
        """The refinement that is served, under the weights of now and the keys of an iteration, of this process's rows
        of the batch; rows that diverge are NaN.
        """
        r, t = self.config.refinement, self.config.training
        tau = r.tau if iteration < t.noise_fraction * t.iterations else 0.0
        seeds = self.team.own(self.draws.rows(len(y), Purpose.CHAIN, iteration, salt))
        start = {name: self.team.own(value) for name, value in self._rows(y, batch, tau).items()}
        with frozen(self.solver.network, t.precision):
            rows = run(refined(self._step, start, r.steps, seeds), device=self.device, end=blanked)
        return rows["y"].detach()

    def _rows(self, y: Tensor, batch: Batch, tau: float) -> Rows:
        numbers = trained_numbers(self.config.refinement, len(y), self.device, tau=tau)
        return {"y": y, "c": batch.c, **numbers, **batch.extra}

    def _value(self, rows: Rows) -> Tensor:
        with self._precision():
            value: Tensor = self.solver.network(rows["y"], rows["c"])
        return value

    def _precision(self) -> AbstractContextManager[object]:
        return mixed_precision(self.device, self.config.training.precision)

    # Guards and state

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        del iteration, metrics
        return self.readings.trouble

    def _objection(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        t, mse = self.config.training, metrics["mean_image_mse"]
        move = metrics["move"] if iteration >= _SETTLED else 0.0
        lost = math.isnan(metrics["range"])
        return first(
            "a chain diverged; lower refinement.eta or refinement.tau" if lost else not_finite(metrics),
            above("the mean refined image is far from the mean real one", "MSE", mse, 2),
            runaway((metrics["f_data"], metrics["f_model"]), t.guard_value),
            above("the solver moves images too far", "mean move", move, t.guard_move),
        )

    def state(self) -> dict[str, Tensor]:
        self.readings.read()
        return self.initializer.state() | self.solver.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.initializer.load_state(state)
        self.solver.load_state(state)
        self.readings.clear()

    @property
    def stage(self) -> int:
        return 0

    def leave_stage(self) -> bool:
        return False

    # The result

    def draw(self, n: int) -> Tensor | None:
        return None  # both networks are averaged, and the average of the last iterations is what is served

    def reference(self, images: Tensor) -> Tensor:
        return to_float(images)

    def export(self) -> dict[str, Tensor]:
        """The averages of both networks."""
        networks = {"initializer": self.problem.served(self.initializer.served), "solver": self.solver.served}
        state = {f"{n}.{k}": v for n, net in networks.items() for k, v in net.state_dict().items()}
        return copied({name: v for name, v in state.items() if not name.endswith("num_batches_tracked")})

    def samples(self) -> Tensor:
        """Proposals and refined images of the averaged networks, laid out by the problem."""
        batch = self.problem.sheet()
        with torch.no_grad():
            proposal = self.problem.propose(self.problem.served(self.initializer.served), batch)
        start = self._rows(proposal, batch, tau=0.0)
        rows = run(
            refined(self._averaged_step, start, self.config.refinement.steps, [0] * len(proposal)), device=self.device
        )
        pair = [v.detach().clamp(-1, 1) for v in (proposal, rows["y"])]
        return self.problem.show(batch, *pair).cpu()

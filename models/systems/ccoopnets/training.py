"""Cooperative training of the initializer and the solver (Algorithm 1 of the CCoopNets paper)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.core.noise import Key, Noise, mix
from models.data.images import ImageData, to_float
from models.samplers.langevin import langevin
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.problem import ImageProblem
from models.systems.ccoopnets.labels.config import Config
from models.systems.ccoopnets.labels.networks import initialize_as_paper
from models.systems.ccoopnets.labels.problem import LabelProblem
from models.systems.ccoopnets.problem import CHAIN, INSTANCE, Batch, Problem
from models.training.optim import adam_state, ema_update, load_adam_state, mixed_precision, scheduled_lr

_SETTLED = 200
"""Iterations before the guard on the size of the refinement's move applies: the first moves are large by nature."""


class CCoopTrainer:
    """Both networks, their averages and optimizers, and the step that advances them.

    Args:
        config: sizes and constants, already fitted to the data.
        problem: what is conditioned on.
        seed: everything random in the training is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Config | ImageConfig, problem: Problem, seed: int, device: torch.device) -> None:
        self.config, self.problem, self.seed, self.device = config, problem, seed, device
        torch.manual_seed(mix(seed) >> 1)
        self.initializer, self.solver = problem.build()
        if config.training.initialization == "paper":
            initialize_as_paper(self.initializer)
            initialize_as_paper(self.solver)
        self.initializer.to(device)
        self.solver.to(device)
        self.ema_initializer = copy.deepcopy(self.initializer).requires_grad_(False)
        self.ema_solver = copy.deepcopy(self.solver).requires_grad_(False)
        t = config.training
        self.opt_initializer = torch.optim.Adam(self.initializer.parameters(), t.lr_initializer, betas=t.betas)
        self.opt_solver = torch.optim.Adam(self.solver.parameters(), t.lr_solver, betas=t.betas)
        self._chain = langevin(lambda rows: self._value(self.solver, rows["y"], rows["c"]))
        self._ema_chain = langevin(lambda rows: self.ema_solver(rows["y"], rows["c"]))

    # One iteration

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        """Algorithm 1: propose, refine with theta frozen, update the solver, then the initializer, once each."""
        t = self.config.training
        for optimizer, lr in ((self.opt_solver, t.lr_solver), (self.opt_initializer, t.lr_initializer)):
            for group in optimizer.param_groups:
                group["lr"] = lr_scale * scheduled_lr(lr, t.lr_schedule, t.lr_final, iteration, t.iterations)
        batch = self.problem.batch(iteration, salt)
        with self._precision():
            proposal = self.problem.propose(self.initializer, batch)
        refined = self._refine(proposal.detach(), batch, iteration, salt)
        metrics = self._update_solver(
            self._noisy(batch.y, iteration, salt, 0), self._noisy(refined, iteration, salt, 1), batch
        )
        loss = self.problem.initializer_loss(proposal, refined, batch)
        self.opt_initializer.zero_grad()
        loss.backward()
        self.opt_initializer.step()
        ema_update(self.ema_solver, self.solver, t.ema)
        ema_update(self.ema_initializer, self.initializer, t.ema)
        with torch.no_grad():
            metrics |= {
                "loss_initializer": loss.item(),
                "move": (refined - proposal).abs().mean().item(),
                "range": refined.abs().max().item(),
                "mean_image_mse": F.mse_loss(refined.mean(0), batch.y.mean(0)).item(),
            }
        return metrics

    def _noisy(self, images: Tensor, iteration: int, salt: int, which: int) -> Tensor:
        std = self.config.training.instance_noise
        if not std:
            return images
        generator = torch.Generator().manual_seed(mix(self.seed, INSTANCE, iteration, salt, which))
        return images + std * torch.randn(images.shape, generator=generator).to(images.device)

    def _update_solver(self, y: Tensor, refined: Tensor, batch: Batch) -> dict[str, float]:
        """Descend mean f(Y~) - mean f(Y) (eq. 6); ``penalty`` bounds the scale of f, which the paper leaves free."""
        t = self.config.training
        with self._precision():
            f_data, f_model = self.solver(y, batch.c), self.solver(refined, batch.c)
            terms = self.problem.solver_terms(self.solver, batch)
        loss = f_model.mean() - f_data.mean() + t.penalty * (f_data.square() + f_model.square()).mean()
        for term in terms.values():
            loss = loss + term
        self.opt_solver.zero_grad()
        loss.backward()
        self.opt_solver.step()
        metrics = {"f_data": f_data.mean().item(), "f_model": f_model.mean().item(), "loss_solver": loss.item()}
        metrics["gap"] = metrics["f_data"] - metrics["f_model"]
        return metrics | {name: term.item() for name, term in terms.items()}

    def _refine(self, y: Tensor, batch: Batch, iteration: int, salt: int) -> Tensor:
        r, t = self.config.refinement, self.config.training
        noisy = iteration < t.noise_fraction * t.iterations
        one = torch.ones(len(y), 1, 1, 1, device=self.device)
        numbers = {"eta": one * r.eta, "rho": one * r.rho, "tau": one * (r.tau if noisy else 0.0)}
        rows = {"y": y, "c": batch.c, **numbers, **batch.extra}
        index = torch.zeros(len(y), device=self.device)
        self.solver.requires_grad_(False)
        seeds = [mix(self.seed, CHAIN, iteration, salt, row) for row in range(len(y))]
        for k in range(r.steps):
            rows = self._chain(rows, index, Noise([Key(seed, 0, k) for seed in seeds], self.device))
        self.solver.requires_grad_(True)
        return rows["y"].detach()

    def _value(self, solver: nn.Module, y: Tensor, c: Tensor) -> Tensor:
        with self._precision():
            value: Tensor = solver(y, c)
        return value

    def _precision(self) -> torch.autocast:
        return mixed_precision(self.device, self.config.training.precision)

    # Guards and state

    def diverged(self, iteration: int, metrics: Mapping[str, float]) -> str | None:
        t = self.config.training
        if metrics["mean_image_mse"] > 2:
            return f"the mean refined image is far from the mean real one (MSE {metrics['mean_image_mse']:.3g} > 2)"
        if metrics["range"] > 5:
            return f"refined images left the range (|Y| up to {metrics['range']:.3g} > 5)"
        value = max(abs(metrics["f_data"]), abs(metrics["f_model"]))
        if t.guard_value is not None and value > t.guard_value:
            return f"the scale of f runs away (|mean f| {value:.3g} > {t.guard_value:g})"
        if t.guard_move is not None and iteration >= _SETTLED and metrics["move"] > t.guard_move:
            return f"the solver moves images too far (mean move {metrics['move']:.3g} > {t.guard_move:g})"
        return None

    def _networks(self) -> dict[str, nn.Module]:
        return {
            "initializer": self.initializer,
            "solver": self.solver,
            "ema_initializer": self.ema_initializer,
            "ema_solver": self.ema_solver,
        }

    def state(self) -> dict[str, Tensor]:
        state = {f"{n}.{k}": v for n, net in self._networks().items() for k, v in net.state_dict().items()}
        state |= adam_state("opt_initializer", self.opt_initializer)
        state |= adam_state("opt_solver", self.opt_solver)
        return {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, net in self._networks().items():
            prefix = f"{name}."
            net.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        load_adam_state("opt_initializer", self.opt_initializer, state)
        load_adam_state("opt_solver", self.opt_solver, state)

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
        networks = {"initializer": self.problem.served(self.ema_initializer), "solver": self.ema_solver}
        return {
            f"{n}.{k}": v.detach().cpu().contiguous().clone()
            for n, net in networks.items()
            for k, v in net.state_dict().items()
            if not k.endswith("num_batches_tracked")
        }

    def samples(self) -> Tensor:
        """Proposals and refined images of the averaged networks, laid out by the problem."""
        batch, r = self.problem.sheet(), self.config.refinement
        one = torch.ones(len(batch.c), 1, 1, 1, device=self.device)
        with torch.no_grad():
            proposal = self.problem.propose(self.problem.served(self.ema_initializer), batch)
        rows = {"y": proposal, "c": batch.c, "eta": one * r.eta, "rho": one * r.rho, "tau": one * 0, **batch.extra}
        for k in range(r.steps):
            rows = self._ema_chain(rows, one.flatten(), Noise([Key(0, 0, k)] * len(one), self.device))
        pair = [v.detach().clamp(-1, 1) for v in (proposal, rows["y"])]
        return self.problem.show(batch, *pair).cpu()


def make_trainer(config: Config | ImageConfig, data: ImageData, seed: int, device: torch.device) -> CCoopTrainer:
    """A fresh training of a configuration that was fitted to the data."""
    problem: Problem
    if isinstance(config, ImageConfig):
        problem = ImageProblem(config, data, seed, device)
    else:
        problem = LabelProblem(config, data, seed, device)
    return CCoopTrainer(config, problem, seed, device)

"""Cooperative training of the initializer and the solver (Algorithm 1 of the CCoopNets paper)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.images import ImageData, to_float
from models.kernels.langevin import langevin
from models.noise import Key, Noise, mix
from models.optim import adam_state, ema_update, load_adam_state, scheduled_lr
from models.systems.ccoopnets.config import Config
from models.systems.ccoopnets.networks import Initializer, Solver, initialize_as_paper

_DATA, _LATENT, _CHAIN, _SHEET, _STATISTICS = range(5)
"""Purposes of random numbers: each is keyed by (seed, purpose, iteration), so that a resumed training repeats them."""

_SETTLED = 200
"""Iterations before the guard on the size of the refinement's move applies: the first moves are large by nature."""


class CCoopTrainer:
    """Both networks, their averages and optimizers, and the step that advances them.

    Args:
        config: sizes and constants, already fitted to the data.
        data: labelled images, uint8.
        seed: everything random in the training is a function of it and of the iteration.
        device: where the networks are trained.
    """

    def __init__(self, config: Config, data: ImageData, seed: int, device: torch.device) -> None:
        if data.labels is None:
            raise ValueError(f"{data.name} has no labels")
        self.config, self.seed, self.device = config, seed, device
        self.images, self.labels = data.images, data.labels
        torch.manual_seed(mix(seed) >> 1)
        self.initializer, self.solver = Initializer(config), Solver(config)
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
        y, c = self._batch(iteration, salt)
        x = self._normal(_LATENT, iteration, salt, len(y), self.config.initializer.latent)
        with self._precision():
            proposal = self.initializer(x, c)
        refined = self._refine(proposal.detach(), c, iteration, salt)
        metrics = self._update_solver(y, refined, c)
        loss = F.mse_loss(proposal, refined) / (2 * t.sigma**2)  # eq. 8, averaged over pixels
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
                "mean_image_mse": F.mse_loss(refined.mean(0), y.mean(0)).item(),
            }
        return metrics

    def _update_solver(self, y: Tensor, refined: Tensor, c: Tensor) -> dict[str, float]:
        r"""Descend mean f(Y~) - mean f(Y) (eq. 6), with two optional terms that the paper does not have.

        ``penalty`` bounds the scale of f. ``label_contrast`` adds softplus(f(Y, C') - f(Y, C)) with C' the label of
        another row: eq. 6 compares values within one label only, so it never asks f to tell labels apart.
        """
        t = self.config.training
        with self._precision():
            f_data, f_model = self.solver(y, c), self.solver(refined, c)
        loss = f_model.mean() - f_data.mean() + t.penalty * (f_data.square() + f_model.square()).mean()
        metrics = {"f_data": f_data.mean().item(), "f_model": f_model.mean().item()}
        if t.label_contrast:
            other = c.roll(1, 0)
            with self._precision():
                contrast = F.softplus(self.solver(y, other) - f_data) * (other != c).any(1)
            loss = loss + t.label_contrast * contrast.mean()
            metrics["label_contrast"] = contrast.mean().item()
        self.opt_solver.zero_grad()
        loss.backward()
        self.opt_solver.step()
        return {**metrics, "gap": metrics["f_data"] - metrics["f_model"], "loss_solver": loss.item()}

    def _refine(self, y: Tensor, c: Tensor, iteration: int, salt: int) -> Tensor:
        r, t = self.config.refinement, self.config.training
        noisy = iteration < t.noise_fraction * t.iterations
        one = torch.ones(len(y), 1, 1, 1, device=self.device)
        rows = {"y": y, "c": c, "eta": one * r.eta, "rho": one * r.rho, "tau": one * (r.tau if noisy else 0.0)}
        index = torch.zeros(len(y), device=self.device)
        self.solver.requires_grad_(False)
        seeds = [mix(self.seed, _CHAIN, iteration, salt, row) for row in range(len(y))]
        for k in range(r.steps):
            rows = self._chain(rows, index, Noise([Key(seed, 0, k) for seed in seeds], self.device))
        self.solver.requires_grad_(True)
        return rows["y"].detach()

    def _value(self, solver: Solver, y: Tensor, c: Tensor) -> Tensor:
        with self._precision():
            value: Tensor = solver(y, c)
        return value

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bf16", cache_enabled=False
        )

    # Random numbers, each a function of (seed, purpose, iteration)

    def _generator(self, *keys: int) -> torch.Generator:
        return torch.Generator().manual_seed(mix(self.seed, *keys))

    def _normal(self, purpose: int, iteration: int, salt: int, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator(purpose, iteration, salt)).to(self.device)

    def _batch(self, iteration: int, salt: int) -> tuple[Tensor, Tensor]:
        size = self.config.training.batch_size
        index = torch.randint(len(self.images), (size,), generator=self._generator(_DATA, iteration, salt))
        images, labels = to_float(self.images[index]).to(self.device), self.labels[index].to(self.device)
        return images, F.one_hot(labels, self.config.classes).float()

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
        return {k: v.detach().cpu().clone() for k, v in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, net in self._networks().items():
            prefix = f"{name}."
            net.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        load_adam_state("opt_initializer", self.opt_initializer, state)
        load_adam_state("opt_solver", self.opt_solver, state)

    # The result

    def export(self) -> dict[str, Tensor]:
        """The averages of both networks, with batch statistics recomputed for the averaged initializer."""
        networks = {"initializer": self._with_fresh_statistics(), "solver": self.ema_solver}
        return {
            f"{n}.{k}": v.detach().cpu().contiguous().clone()
            for n, net in networks.items()
            for k, v in net.state_dict().items()
            if not k.endswith("num_batches_tracked")
        }

    def _with_fresh_statistics(self) -> Initializer:
        """The averaged initializer with the cumulative statistics of 50 fresh batches."""
        net = copy.deepcopy(self.ema_initializer).train()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # cumulative average
        with torch.no_grad():
            for k in range(50):
                _, c = self._batch(k, _STATISTICS)
                net(self._normal(_STATISTICS, k, 0, len(c), self.config.initializer.latent), c)
        return net.eval()

    def samples(self) -> Tensor:
        """One row a class and eight columns: four proposals, then the same four refined."""
        classes, columns = self.config.classes, 4
        c = F.one_hot(torch.arange(classes).repeat_interleave(columns), classes).float().to(self.device)
        net = self._with_fresh_statistics()
        r = self.config.refinement
        one = torch.ones(len(c), 1, 1, 1, device=self.device)
        with torch.no_grad():
            y = net(self._normal(_SHEET, 0, 0, len(c), self.config.initializer.latent), c)
        rows = {"y": y, "c": c, "eta": one * r.eta, "rho": one * r.rho, "tau": one * 0}
        for k in range(r.steps):
            rows = self._ema_chain(rows, one.flatten(), Noise([Key(0, 0, k)] * len(c), self.device))
        pair = [v.detach().clamp(-1, 1).reshape(classes, columns, *v.shape[1:]) for v in (y, rows["y"])]
        return torch.cat(pair, 1).cpu()


def make_trainer(config: Config, data: ImageData, seed: int, device: torch.device) -> CCoopTrainer:
    """A fresh training of a configuration that was fitted to the data."""
    return CCoopTrainer(config, data, seed, device)

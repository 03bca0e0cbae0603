"""What the metrics of a training are, in words."""

from __future__ import annotations

from collections.abc import Mapping

from models.training.curves import Curve

CURVES: Mapping[str, Curve] = {
    "distance": Curve(
        "critic on data minus critic on images of the generator", good="falls slowly, stays above 0", headline=True
    ),
    "real": Curve("critic on data", good="stays near 0"),
    "fake": Curve("critic on images of the generator", good="near that on data"),
    "penalty": Curve("squared distance of the critic's slope from 1", good="small"),
    "mean_penalty": Curve("its running mean", good="below 1"),
    "critic_gradient": Curve("norm of the critic's gradient", good="no jumps"),
    "generator_gradient": Curve("norm of the generator's gradient", good="no jumps"),
    "diversity": Curve("spread of the generator's images over the data's", good="near 1; below 0.25 all are alike"),
    "kimg": Curve("images seen", "thousands", good="rises"),
    "size": Curve("resolution of the level", "pixels", good="doubles with each level"),
    "alpha": Curve("how far the newest level is faded in", good="rises from 0 to 1 in each level"),
}

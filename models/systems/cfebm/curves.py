"""What the metrics of a CF-EBM's training are; see :mod:`models.systems.cfebm.fit`."""

from __future__ import annotations

from models.training.curves import Curve

_PIXELS = "pixels -1..1"

CURVES = {
    "mismatch": Curve(
        "squared distance of the gradient from straight paths", good="falls, to what paths that cross leave"
    ),
    "gap": Curve("value of real images less chain ends", good="about 0; far from it one has won", headline=True),
    "jump": Curve("norm of the gradient over its median", good="about 1; far above it the update is undone"),
    "f_data": Curve("value of real images", good="steady, without running away"),
    "f_chain": Curve("value of chain ends", good="near that of real images"),
    "gradient": Curve("norm of the gradient", good="steady"),
    "sigma_max": Curve("greatest singular value of a layer", good="about 1"),
    "chain_mean": Curve("mean of chain ends", _PIXELS, "near data_mean"),
    "chain_std": Curve("contrast (standard deviation) of chain ends", _PIXELS, "near data_std", headline=True),
    "data_mean": Curve("mean of real images", _PIXELS, "what chain_mean should be near"),
    "data_std": Curve("contrast (standard deviation) of real images", _PIXELS, "what chain_std should be near"),
    "clamped": Curve("chain ends' pixels at the ends of the range", "share", "not far above that of real images"),
    "alpha": Curve("weight of the newest block", good="rises to 1 in each stage"),
    "stage": Curve("stage of the growth", good="rises to the last"),
    "seen": Curve("images seen in this stage", "images", "rises, and begins anew with each stage"),
    "strained": Curve("iterations in a row with strained chains", "iterations", "0"),
}

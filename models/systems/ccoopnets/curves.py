"""What the metrics of a cooperative training are; see :mod:`models.systems.ccoopnets.training`."""

from __future__ import annotations

from models.training.curves import Curve

_PIXELS = "pixels -1..1"

CURVES = {
    "gap": Curve("value of real less refined images", good="about 0; far from it one has won", headline=True),
    "move": Curve("mean move of a pixel by the solver", _PIXELS, "small and steady", headline=True),
    "f_data": Curve("value of real images", good="steady, without running away"),
    "f_model": Curve("value of refined images", good="near that of real images"),
    "loss_solver": Curve("loss of the solver", good="steady, without running away"),
    "label_likelihood": Curve("-log p(label | real image), weighted", "nats", "lower is better"),
    "loss_initializer": Curve("distance of proposals to refined images (loss)", good="falls, then steady"),
    "range": Curve("greatest pixel of refined images", _PIXELS, "not far above 1"),
    "mean_image_mse": Curve("mean refined to mean real image", f"squared, {_PIXELS}", "near 0"),
}

"""What the metrics and sheets of CoopFlow's trainings are."""

from __future__ import annotations

from collections.abc import Sequence

from models.systems.coopflow.config import Config
from models.systems.coopflow.training import SHEET
from models.training.curves import Curve, Headings

_PIXELS = "pixels -1..1"

CURVES = {
    "phase": Curve("0 norms, 1 flow alone, 2 energy alone, 3 both", good="grows"),
    "norm_images": Curve("images that the flow's norms were fitted to", good="some hundreds"),
    "bits": Curve("bits a dimension of what the flow learns", "bits", "falls, then settles", headline=True),
    "bits_data": Curve("bits a dimension of real images under the flow", "bits", "falls while the flow learns alone"),
    "gap": Curve("mean f of real images less that of chain ends", good="circles around 0", headline=True),
    "f_data": Curve("mean f of real images", good="stays within bounds"),
    "f_chain": Curve("mean f of chain ends", good="near that of real images"),
    "norm_flow": Curve("norm of the flow's gradient, before it is clipped", good="no jumps"),
    "norm_energy": Curve("norm of the energy's gradient, before it is clipped", good="no jumps"),
    "move": Curve("how far chains go from proposals, root mean square", _PIXELS, "falls slowly, but not to 0"),
    "cut": Curve("share of pixels that the bound kept from going further", good="below 0.01"),
    "contrast": Curve("contrast of proposals over that of real images", good="0.95 to 1.05"),
    "contrast_refined": Curve("contrast of chain ends over that of real images", good="0.95 to 1.05"),
    "saturated": Curve("share of black and white pixels of chain ends", good="near that of real images"),
    "saturated_data": Curve("share of black and white pixels of real images", good="what chain ends should have"),
    "skipped": Curve("iterations without an update", good="0"),
    "round_trip": Curve("largest difference of an image to the flow's inverse of its latent", _PIXELS, "below 0.01"),
    "least_log_scale": Curve("the least logarithm of a scale of the flow's norms", good="stays above -7"),
}


def headings(config: Config, classes: Sequence[str]) -> Headings:
    """A sheet has proposals, and below them in the same order what the chain makes of them."""
    del config, classes
    rows = SHEET // 2
    return Headings(rows=("proposal",) * rows + ("refined",) * rows, made=(slice(rows, None), slice(None)))

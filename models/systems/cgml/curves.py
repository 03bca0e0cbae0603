"""What the metrics of a training are, in words."""

from __future__ import annotations

from collections.abc import Mapping

from models.training.curves import Curve

CURVES: Mapping[str, Curve] = {
    "error": Curve("error at the end of the descents, which H and G learn from", good="falls", headline=True),
    "error_start": Curve("error at random latents", good="stays above the next: the latent decides"),
    "error_searched": Curve("error before the last step of the descents", good="falls", headline=True),
    "turned": Curve("how far descents go", "radians", good="above 0.05, or the start alone decides"),
    "latent_gradient": Curve("typical gradient to the latent", good="grows at first"),
    "beta": Curve("factor of the gradient", good="stays after the first tenth"),
    "move_error": Curve("the predictor's error of steps, in squares of the typical step", good="below 1, falls"),
    "length_error": Curve("the same of their lengths", good="falls"),
    "kappa": Curve("agreement of descents, median", good="between 0 and 1"),
    "kappa_low": Curve("the same, lower quartile", good="near 0: phantom optima"),
    "roughness": Curve("what noise changes in images, per its size", good="bounded"),
    "roughness_predictor": Curve("what noise changes in moves, per its size", good="bounded"),
    "histogram_a": Curve("histogram of a to a uniform one", "nats", good="falls a little"),
    "histogram_b": Curve("histogram of b to a uniform one", "nats", good="falls a little"),
    "coder_gradient": Curve("norm of the gradient of H and G", good="no jumps"),
    "predictor_gradient": Curve("norm of the predictor's gradient", good="no jumps"),
    "first_error": Curve("error of one answer without a target", good="falls", headline=True),
    "mean_error": Curve("mean error of eight answers", good="falls"),
    "best_error": Curve("least error of eight answers", good="falls, below the first"),
    "apart": Curve("difference of two answers", good="above 0.001: the latent is not ignored"),
    "stage": Curve("0: all learn, 1: the predictor alone", good="rises to 1"),
    "skipped": Curve("update left out", good="0"),
}

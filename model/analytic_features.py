"""The views of a clip that the closed form learns from: sound alone, and sound beside sight pooled in several ways.

No gradient and no label is used. What is measured (means, scales, the directions of the heads) is measured on the
clips of the first step and then stays as it is, so that later clips, in any order, are seen in the same way. It is
kept to few digits: the order of the first clips, which changes the last ones, then changes nothing.

Shapes: n clips, F frames, S positions in a frame, D dimensions, R random directions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from model.random_features import TokenPooling
from model.sharding import gather_rows

TINY = 1e-6
DIGITS = 2**12


@dataclass
class Scale:
    """Mean of columns (D,), and one deviation for all of them, float32.

    One, not one for each: that would raise what hardly varies, mostly noise, to the size of the rest. Where nothing
    varies (one clip) the size of the mean takes its place.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, squares: torch.Tensor | None = None) -> "Scale":
        """Of ``rows`` (n, D); with ``squares``, both are means over the parts of each row: E[x] and E[x^2]."""
        rows = rows.double()
        mean = rows.mean(0)
        second = (rows.square() if squares is None else squares.double()).mean(0)
        deviation = (second - mean.square()).clamp_min(0).mean().sqrt()
        return cls(mean.float(), _unless_tiny(deviation, mean.square().mean().sqrt()).float())

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of mean 0 and length about 1, (n, D) float64."""
        return (rows.double() - self.mean) / (self.deviation.double() * rows.shape[1] ** 0.5)


class AnalyticFeatures:
    """``views(views.vectors(batch))`` gives the views of a batch's clips: name -> (B, D') float64 of length about 1.

    ``heads`` are heads of attention over tokens in closed form: the directions in which the sound and the mean token of
    a clip vary together (singular vectors of their covariance). A token counts the more, the more it agrees with the
    sound in that direction, by a softmax of ``sharpness`` times the product.
    """

    def __init__(
        self,
        heads: int,
        sharpness: float,
        visual_shape: tuple[int, int, int] | None,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        """``visual_shape`` (F, S, D), or None in runs on sound alone."""
        self.heads, self.sharpness, self.shape = heads, sharpness, visual_shape
        self.device = torch.device(device)
        self.pooling = TokenPooling(visual_shape, seed, device) if visual_shape else None
        self.scales, self.audio_directions, self.token_directions = {}, None, None

    def fit(self, batches: Callable[[], Iterable]) -> dict[str, torch.Tensor]:
        """Measure the clips of the first step, which ``batches()`` brings; return their ``vectors``, (n, D) each."""
        parts = [self.vectors(batch, squares=True) for batch in batches()]
        rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        self.scales = {name: Scale.of(values) for name, values in rows.items()}
        if "audio" in rows and "mean" in rows and self.heads:
            self._fit_heads(rows, batches)
            pooled = [self._pooled_by_heads(batch) for batch in batches()]
            rows |= {name: torch.cat([part[name] for part in pooled]) for name in pooled[0]}
            self.scales |= {name: Scale.of(rows[name]) for name in pooled[0]}
        return rows

    def vectors(self, batch: Any, squares: bool = False) -> dict[str, torch.Tensor]:
        """The vectors (B, D) that views are made of, by name: the sound, and what the tokens are pooled to.

        ``squares``: the tokens' mean squares too, which scales are measured by.
        """
        rows = {} if batch.audio is None else {"audio": batch.audio}
        if batch.visual is not None:
            pooling = self.pooling
            assert pooling is not None  # there are tokens
            rows |= self._of_tokens(batch, lambda tokens, _: pooling(tokens, squares))
        if self.token_directions is not None:
            rows |= self._pooled_by_heads(batch)
        return rows

    def __call__(self, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each view of :meth:`parts_of_views` as one vector: its parts side by side, in their shares of its length."""
        scaled = {name: self.scales[name](values) for name, values in rows.items() if name != "squares"}
        views = {}
        for view, shares in self.parts_of_views().items():
            total = sum(shares.values())
            views[view] = torch.cat([(share / total) ** 0.5 * scaled[part] for part, share in shares.items()], 1)
        return views

    def parts_of_views(self) -> dict[str, dict[str, float]]:
        """What each view consists of: view -> {vector: share of its squared length}.

        Sound beside sight has two views, which differ in their random features: half of those of a run on sound alone
        would be few where sound decides.
        """
        parts = dict.fromkeys((name for name in self.scales if name != "squares"), 1.0)
        heads = {name: 1.0 for name in parts if name.startswith("head")}
        sight = {name: 1.0 for name in parts if name != "audio" and name not in heads}
        if not sight:
            return {"audio": parts}
        views = {name: {name: 1.0} for name in ("mean", "token extremes", "frame extremes")} | {"sight": sight}
        if "audio" not in parts:
            return views
        views |= {"audio": {"audio": 1.0}, "audio again": {"audio": 1.0}, "audio and mean": {"audio": 1.0, "mean": 1.0}}
        if heads:
            views["audio and heads"] = {"audio": 1.0, "mean": 1.0} | heads
        # In the view of everything, sound, mean and heads together count as much as each of the others.
        few = {"audio", "mean", *heads}
        return views | {"all": {name: 1 / len(few) if name in few else 1.0 for name in parts}}

    def _fit_heads(self, rows, batches):
        of_tokens = Scale.of(rows["mean"], rows["squares"])
        audio = (rows["audio"].double() - self.scales["audio"].mean) / self.scales["audio"].deviation
        visual = rows["mean"].double() - of_tokens.mean
        # A pair of singular vectors has no sign of its own; the product of its projections, which is used, has none.
        left, _, right = torch.linalg.svd(audio.T @ visual / len(audio), full_matrices=False)
        left, right = left[:, : self.heads], right[: self.heads].T
        spread = (audio @ left).square().mean(0).sqrt()
        self.audio_directions = _rounded(left / _unless_tiny(spread, torch.ones_like(spread)))
        self.token_directions = _rounded(right).float()
        self.token_origin = (of_tokens.mean.double() @ self.token_directions.double()).float()
        along = [self._of_tokens(batch, lambda tokens, _: self._score_moments(tokens)) for batch in batches()]
        scale = Scale.of(*(torch.cat([part[name] for part in along]) for name in ("mean", "squares")))
        self.token_directions = _rounded(right / scale.deviation.double()).float()
        self.token_origin = (of_tokens.mean.double() @ self.token_directions.double()).float()

    def _score_moments(self, tokens):
        score = self._token_score(tokens)
        return {"mean": score.mean(1), "squares": score.square().mean(1)}

    def _token_score(self, tokens):
        """Along each head, of tokens (n, F, S, D): (n, F x S, heads)."""
        return tokens.flatten(1, 2) @ self.token_directions - self.token_origin

    def _pooled_by_heads(self, batch):
        """The tokens pooled by each head: a softmax over a clip's tokens of how well each agrees with the sound."""
        scale = self.scales["audio"]
        audio = (batch.audio.double() - scale.mean) / scale.deviation
        cue = (audio @ self.audio_directions).float()

        def pool(tokens, rows):
            score = self.sharpness * cue[rows][:, None] * self._token_score(tokens)
            pooled = torch.softmax(score, 1).transpose(1, 2) @ tokens.flatten(1, 2)
            return {f"head {head}": pooled[:, head] for head in range(pooled.shape[1])}

        return self._of_tokens(batch, pool)

    def _of_tokens(self, batch, function):
        """What ``function(tokens (n, F, S, D) float32, rows)`` makes of each piece of a batch, by name, put together.

        On a CPU a piece is one clip: a product of matrices may round otherwise when it has more rows.
        """
        tokens, parts = batch.visual, []
        for piece in tokens.pieces(self.device.type):
            taken, rows = tokens.take(piece), tokens.batch_rows(piece)
            if self.device.type == "cpu":
                # A copy begins where memory does, whichever its number.
                parts += [function(taken[i : i + 1].float().clone(), rows[i : i + 1]) for i in range(len(rows))]
            else:
                parts.append(function(taken.float(), rows))
        if not parts:  # others hold all of the batch's clips: one is made up for the shape
            assert self.shape is not None  # of the tokens
            made = function(torch.zeros(1, *self.shape, device=self.device), [0])
            parts = [{name: values[:0] for name, values in made.items()}]
        return {name: gather_rows(torch.cat([part[name] for part in parts]), tokens) for name in parts[0]}

    def state(self) -> dict:
        scales = {name: [scale.mean, scale.deviation] for name, scale in self.scales.items()}
        heads = None
        if self.token_directions is not None:
            heads = [self.audio_directions, self.token_directions, self.token_origin]
        return {"scales": scales, "heads": heads}

    def load_state(self, state: dict) -> None:
        def to_device(values):
            return [value.to(self.device) for value in values]

        self.scales = {name: Scale(*to_device(values)) for name, values in state["scales"].items()}
        if state["heads"] is not None:
            self.audio_directions, self.token_directions, self.token_origin = to_device(state["heads"])


def _unless_tiny(value, instead):
    """``value`` where it is more than rounding, otherwise ``instead``, and 1 where that is nothing either."""
    instead = torch.where(instead > TINY, instead, torch.ones_like(instead))
    return torch.where(value > TINY * instead, value, instead)


def _rounded(values):
    """``values`` to 12 binary digits of the largest."""
    step = 2.0 ** torch.log2(values.abs().max().clamp_min(TINY)).ceil() / DIGITS
    return (values / step).round() * step

"""Vectors for a linear classifier in closed form: both senses, and tokens pooled by what sound and sight share.

No gradient and no label is used. The few directions in which a clip's sound and its mean token vary together (singular
vectors of their cross-covariance) become heads of attention: a token counts the more, the more it agrees with the sound
in that direction. All statistics are of the first step's clips and then stay as they are, so that later clips, in any
order, are seen in the same way.
"""

from dataclasses import dataclass

import torch

from model.sharding import gather_rows

TINY = 1e-6


@dataclass
class Scale:
    """Mean of columns, and one deviation for all of them (1 where nothing varies), float64.

    One, not one for each: that would raise what hardly varies, mostly noise, to the size of the rest.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, rows, squares=None):
        """Of ``rows`` (n, D); with ``squares``, both are means over the parts of each row: E[x] and E[x^2]."""
        rows = rows.double()
        mean = rows.mean(0)
        second = (rows.square() if squares is None else squares.double()).mean(0)
        deviation = (second - mean.square()).clamp_min(0).mean().sqrt()
        return cls(mean, torch.where(deviation > TINY, deviation, torch.ones_like(deviation)))

    def __call__(self, rows):
        return (rows.double() - self.mean) / self.deviation


class AnalyticFeatures:
    """``features(batch)`` gives (B, D') float64: standardised audio, mean token, and the token pooled by each head.

    ``fit`` looks at the clips of the first step, three times where there are heads.
    """

    def __init__(self, heads, sharpness):
        self.heads, self.sharpness = heads, sharpness
        self.scales, self.audio_directions, self.token_directions = {}, None, None

    def fit(self, batches):
        """``batches()`` brings the clips of the first step."""
        found = [self._senses(batch) for batch in batches()]
        rows = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        squares = rows.pop("squares", None)
        self.scales = {name: Scale.of(values) for name, values in rows.items()}
        if squares is not None and self.heads:
            self._fit_heads(rows, Scale.of(rows["mean token"], squares), batches)

    def __call__(self, batch):
        rows = self._senses(batch)
        if self.token_directions is not None:
            rows |= self._pooled(batch)
        return torch.cat([self.scales[name](rows[name]) for name in rows if name != "squares"], 1)

    def _fit_heads(self, rows, of_tokens, batches):
        audio = self.scales["audio"](rows["audio"])
        visual = (rows["mean token"].double() - of_tokens.mean) / of_tokens.deviation
        # A pair of singular vectors has no sign of its own; the product of its projections, which is used, has none.
        left, _, right = torch.linalg.svd(audio.T @ visual / len(audio), full_matrices=False)
        left, right = left[:, : self.heads], right[: self.heads].T / of_tokens.deviation
        self.audio_directions = left / (audio @ left).std(0).clamp_min(TINY)
        self.token_directions, self.token_origin = right, of_tokens.mean @ right
        along = [self._of_tokens(batch, lambda tokens, _: _moments(self._token_score(tokens))) for batch in batches()]
        scale = Scale.of(*torch.cat(along).unbind(1))
        self.token_directions = right / scale.deviation
        self.token_origin = of_tokens.mean @ self.token_directions
        pooled = [self._pooled(batch) for batch in batches()]
        self.scales |= {name: Scale.of(torch.cat([part[name] for part in pooled])) for name in pooled[0]}

    def _senses(self, batch):
        """The vectors of each sense; of tokens also the mean of their squares."""
        rows = {} if batch.audio is None else {"audio": batch.audio}
        if batch.audio is None:
            rows["mean token"] = batch.visual.mean()
        elif batch.visual is not None:
            moments = self._of_tokens(batch, lambda tokens, _: _moments(tokens))
            rows["mean token"], rows["squares"] = moments.unbind(1)
        return rows

    def _pooled(self, batch):
        """The tokens pooled by each head: softmax over a clip's tokens of how well each agrees with the sound."""
        audio = self.scales["audio"](batch.audio) @ self.audio_directions

        def pool(tokens, rows):
            score = self.sharpness * audio[rows][:, None].to(tokens.dtype) * self._token_score(tokens)
            return torch.softmax(score, 1).transpose(1, 2) @ tokens

        pooled = self._of_tokens(batch, pool)
        return {f"head {head}": pooled[:, head] for head in range(self.heads)}

    def _token_score(self, tokens):
        return tokens @ self.token_directions.to(tokens.dtype) - self.token_origin.to(tokens.dtype)

    @staticmethod
    def _of_tokens(batch, function):
        """The rows that ``function(tokens (n, K, D), rows)`` makes of each piece of a batch, put together."""
        tokens, device = batch.visual, batch.audio.device
        parts = []
        for piece in tokens.pieces(device.type):
            parts.append(function(tokens.take(piece).flatten(1, 2).float(), tokens.batch_rows(piece)))
        # Of no clip at all, when others hold them, one is made up for the shape.
        made = torch.cat(parts) if parts else function(torch.zeros(1, 1, tokens.shape[2], device=device), [0])[:0]
        return gather_rows(made, tokens)

    def state(self):
        scales = {name: [scale.mean, scale.deviation] for name, scale in self.scales.items()}
        heads = [self.audio_directions, self.token_directions, self.token_origin] if self.heads_fitted else None
        return {"scales": scales, "heads": heads}

    def load_state(self, state, device):
        def here(values):
            return [value.to(device) for value in values]

        self.scales = {name: Scale(*here(values)) for name, values in state["scales"].items()}
        if state["heads"] is not None:
            self.audio_directions, self.token_directions, self.token_origin = here(state["heads"])

    @property
    def heads_fitted(self):
        return self.token_directions is not None


def _moments(values):
    """Means over axis 1 of ``values`` (n, K, D) and of their squares: (n, 2, D)."""
    return torch.stack((values.mean(1), values.square().mean(1)), 1)

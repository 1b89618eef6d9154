"""The network of class tokens, which learn to gather what belongs to their class (CIGN; Mo et al., ICCV 2023).

Shapes: B clips, K tokens of a clip, X their width, C classes, D width of class tokens.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from features.tokens import Tokens
from model.sharding import gather_rows, replicated

SPREAD = 0.02  # standard deviation of fresh class tokens


class ClassTokens(nn.Module):
    """One token (D,) per class seen, shared by the modalities, and a classifier ``identity`` that tells them apart."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(0, width))
        self.identity = None
        self.grow(num_classes)

    @property
    def num_classes(self) -> int:
        return len(self.tokens)

    def grow(self, new_classes: int) -> None:
        """Append ``new_classes`` tokens and rows of the classifier; the old ones keep their values."""
        width, count = self.tokens.shape[1], self.num_classes
        # Drawn on the CPU: the same seed, the same tokens on every device.
        fresh = SPREAD * torch.randn(new_classes, width)
        identity = nn.Linear(width, count + new_classes).to(self.tokens.device)
        if self.identity is not None:
            with torch.no_grad():
                identity.weight[:count], identity.bias[:count] = self.identity.weight, self.identity.bias
        self.tokens = nn.Parameter(torch.cat((self.tokens.detach(), fresh.to(self.tokens))))
        self.identity = identity


class Grouping(nn.Module):
    """Score classes by what their tokens gather from the tokens of one modality.

    ``A_ck = softmax over c of (W_q q_c).(W_k x_k) / sqrt(d)``,
    ``g_c = q_c + W_o(sum_k A_ck W_v x_k / (sum_k A_ck + 1))``, score ``w . relu(g_c) + b``.
    """

    def __init__(self, modality_width, width):
        super().__init__()
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = (
            nn.Linear(modality_width, width, bias=False),
            nn.Linear(modality_width, width, bias=False),
        )
        self.score = nn.Linear(width, 1)

    def forward(self, class_tokens: torch.Tensor, gather: Callable) -> torch.Tensor:
        """Scores (B, C). ``gather(queries)``: sums of the modality's tokens (B, C, X), and of weights (B, C)."""
        # W_k and W_v are linear: the first goes over to the few queries, the second waits for the few sums.
        queries = self.query(class_tokens) @ self.key.weight / math.sqrt(class_tokens.shape[1])
        sums, totals = gather(queries)
        grouped = class_tokens + self.out(self.value(sums) / (totals[..., None] + 1))
        return self.score(torch.relu(grouped)).squeeze(-1)


def gather(x: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of tokens ``x`` (B, K, X) by class, (B, C, X), and of their weights, (B, C)."""
    weights = torch.softmax(x @ queries.T, 2)
    return weights.transpose(1, 2) @ x, weights.sum(1)


def gather_in_pieces(tokens: Tokens, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``gather`` over visual Tokens; the weights (B, K, C) are made again in the backward pass, never kept."""
    queries = replicated(queries, tokens.group)
    pieces = tokens.pieces(queries.device.type)
    # Nothing in it is drawn, so there is no random state to be kept, for which a GPU would be waited.
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    parts = [checkpoint(_gather_piece, tokens, piece, queries, **options) for piece in pieces]
    if not parts:
        width = tokens.shape[2]
        parts = [gather(queries.new_zeros(0, 1, width), queries)]
    sums, totals = map(torch.cat, zip(*parts, strict=True))
    return gather_rows(sums, tokens), gather_rows(totals, tokens)


def _gather_piece(tokens, piece, queries):
    return gather(tokens.take(piece).flatten(1, 2).to(queries.dtype), queries)


class ClassTokenNet(nn.Module):
    """Class tokens over a clip's audio feature (B, A), its visual tokens, or both; the modalities' scores are added."""

    def __init__(self, modality: str, num_classes: int, audio_dim: int | None = None, visual_dim: int | None = None):
        super().__init__()
        width = (audio_dim if modality == "audio" else visual_dim) or 0
        self.audio = Grouping(audio_dim, width) if modality != "visual" else None
        self.visual = Grouping(visual_dim, width) if modality != "audio" else None
        self.classifier = ClassTokens(width, num_classes)

    def forward(self, audio: Any = None, visual: Any = None) -> dict[str, torch.Tensor]:
        """A dict with ``logits`` (B, classes)."""
        logits: Any = 0
        tokens = self.classifier.tokens
        if self.audio is not None:
            logits = logits + self.audio(tokens, lambda queries: gather(audio[:, None], queries))
        if self.visual is not None:
            logits = logits + self.visual(tokens, lambda queries: gather_in_pieces(visual, queries))
        return {"logits": logits}

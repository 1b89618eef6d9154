"""Classifier heads that grow by the classes of each task."""

import torch
from torch import nn
from torch.nn import functional as F


class GrowingLinear(nn.Linear):
    """A linear classifier with one row per class seen so far."""

    @property
    def num_classes(self) -> int:
        return self.out_features

    def grow(self, new_classes: int) -> None:
        """Add ``new_classes`` freshly initialised rows; the old rows keep their values.

        The whole layer is drawn anew and the old rows are copied over it, so that a seed gives the same new rows
        whatever was learned before.
        """
        old = self.weight.detach(), self.bias.detach()
        fresh = nn.Linear(self.in_features, self.out_features + new_classes).to(self.weight.device)
        with torch.no_grad():
            fresh.weight[: self.out_features] = old[0]
            fresh.bias[: self.out_features] = old[1]
        self.weight, self.bias, self.out_features = fresh.weight, fresh.bias, fresh.out_features


class ProxyHead(nn.Module):
    """Local similarity classifier: several proxies per class, the nearest weigh most (LSC; PODNet, ECCV 2020).

    A class's logit is the softmax-weighted mean of its similarities, minus the squared Euclidean distance between the
    l2-normalised feature and proxies. Proxies of old classes are frozen; ``scale`` belongs to the NCA loss and is 1 at
    the start of every step.
    """

    def __init__(self, in_features: int, num_classes: int, per_class: int = 10):
        super().__init__()
        self.per_class = per_class
        self.old = nn.Parameter(torch.empty(0, in_features), requires_grad=False)
        self.new = nn.Parameter(self._fresh(num_classes, in_features))
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def num_classes(self) -> int:
        return (len(self.old) + len(self.new)) // self.per_class

    def proxies(self) -> torch.Tensor:
        """(classes * per_class, D), class by class."""
        return torch.cat((self.old, self.new))

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Map features (B, D) to logits (B, classes)."""
        # Of two unit vectors, the squared distance is 2 - 2 cos.
        cosine = F.normalize(feature, dim=1) @ F.normalize(self.proxies(), dim=1).T
        similarity = (2 * cosine - 2).unflatten(1, (-1, self.per_class))
        return (torch.softmax(similarity, 2) * similarity).sum(2)

    def grow(self, new_classes: int, proxies: torch.Tensor | None = None) -> None:
        """Freeze the proxies so far and add ``new_classes``, with the given ``proxies`` or freshly initialised ones.

        In the latter case those of all classes are drawn, as in the published code, and the old ones' thrown away.
        """
        if proxies is None:
            self._fresh(self.num_classes, self.new.shape[1])
            proxies = self._fresh(new_classes, self.new.shape[1])
        self.old = nn.Parameter(self.proxies().detach(), requires_grad=False)
        self.new = nn.Parameter(proxies.to(self.old))
        self.scale = nn.Parameter(torch.ones_like(self.scale))

    def mean_norm(self) -> torch.Tensor:
        """Mean length of the proxies: that of freshly imprinted ones."""
        return self.proxies().detach().norm(dim=1).mean()

    def _fresh(self, num_classes, width):
        return nn.init.kaiming_normal_(torch.empty(num_classes * self.per_class, width), nonlinearity="linear")

"""First proxies of new classes, from the features of their clips."""

import torch
from sklearn.cluster import KMeans
from torch.nn import functional as F


def imprint_proxies(features_by_class, per_class, seed=None):
    """KMeans centres of each class's l2-normalised features: (classes * per_class, D).

    ``features_by_class``: one (N, D) tensor per class. A class with fewer distinct clips than ``per_class`` has as many
    centres as clips, taken in turn. Source: AFC, CVPR 2022 (imprinted weights of Qi et al., CVPR 2018).
    """
    return torch.cat([_centres(F.normalize(features, dim=1), per_class, seed) for features in features_by_class])


def _centres(features, count, seed):
    distinct = torch.unique(features, dim=0)
    if len(distinct) <= count:
        centres = distinct[torch.arange(count) % len(distinct)]
    else:
        kmeans = KMeans(count, n_init=1, random_state=seed).fit(features.cpu().numpy())
        centres = torch.from_numpy(kmeans.cluster_centers_)
    return centres.to(features)

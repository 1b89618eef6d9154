"""Random ReLU features with structured orthogonal directions, in whole numbers so that sums of them are exact."""

import torch

UNIT = 64  # root mean square of a feature of a vector of unit length; rounding then adds 0.5 % of noise
ROUNDS = 3
ROWS_AT_ONCE = 32  # few enough for a CPU's cache
LARGEST = 32767  # of int16


class RandomFeatures:
    """``features(x)``, x (n, ``dims``) with rows of length about 1, gives (n, ``width``) int16, none negative.

    The directions are rows of H S1 H S2 H S3, H a Hadamard matrix and S random signs: orthogonal, and multiplied in
    d log d steps (Yu et al., Orthogonal Random Features, NeurIPS 2016). relu of random projections has the arc-cosine
    kernel of order 1 (Cho, Saul, NeurIPS 2009). They come from ``seed`` alone. A row's features depend on no other row.
    """

    def __init__(self, dims: int, width: int, seed: int, device: torch.device | str = "cpu"):
        self.width, self.size = width, 1 << max(1, (dims - 1).bit_length())
        blocks = -(-width // self.size)
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(2, (ROUNDS, self.size, blocks, 1), generator=generator) * 2.0 - 1
        self.signs = signs.to(device)
        rest = width - (blocks - 1) * self.size
        last = (blocks - 1) * self.size + torch.randperm(self.size, generator=generator)[:rest]
        self.columns = torch.cat((torch.arange((blocks - 1) * self.size), last)).to(device)

    def __call__(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """``weight`` (n,): what a row's features are multiplied by before they are rounded."""
        factor = torch.full((len(x),), UNIT * 2**0.5, device=x.device)
        if weight is not None:
            factor = factor * weight
        parts = zip(x.split(ROWS_AT_ONCE), factor.split(ROWS_AT_ONCE), strict=True)
        made = [self._expand(rows, scale) for rows, scale in parts]
        return torch.cat(made) if made else torch.empty(0, len(self.columns), dtype=torch.int16, device=x.device)

    def _expand(self, x, factor):
        _, size, blocks, _ = self.signs.shape
        columns = torch.zeros(size, 1, len(x), device=x.device)  # one clip a column: additions run along memory
        columns[: x.shape[1], 0] = x.T.float()
        for signs in self.signs:
            columns = hadamard((columns * signs).flatten(1)).view(size, blocks, len(x))
        projected = columns.permute(2, 1, 0).flatten(1)[:, self.columns] / size
        return (projected.relu() * factor[:, None]).round().clamp(max=LARGEST).short()


def hadamard(columns: torch.Tensor) -> torch.Tensor:
    """The Hadamard transform of each column of (d, m), d a power of two; the memory of ``columns`` is used up."""
    size, count = columns.shape
    out, half = torch.empty_like(columns), 1
    while half < size:
        pairs = columns.view(size // (2 * half), 2, half * count)
        sums = out.view(size // (2 * half), 2, half * count)
        torch.add(pairs[:, 0], pairs[:, 1], out=sums[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=sums[:, 1])
        columns, out, half = out, columns, 2 * half
    return columns

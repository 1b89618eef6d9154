"""What random directions, of which nothing is learned, make of a clip: poolings of its tokens, features of its views.

Features are in whole numbers, so that sums of them are exact. Shapes: n clips, F frames, S positions in a frame, D
dimensions, R random directions.
"""

import math

import torch

DIRECTIONS = 512  # random directions along which extremes are taken
MOST_POSITIONS = 16  # more of them in a frame are first averaged to a grid of GRID x GRID
GRID = 2
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
        columns = torch.cat((torch.arange((blocks - 1) * self.size), last)).to(device)
        self.columns = columns % self.size * blocks + columns // self.size  # blocks lie side by side in memory

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
        chosen = columns.flatten(0, 1).index_select(0, self.columns).div_(size)
        return (chosen.relu_() * factor).round_().clamp_(max=LARGEST).T.short()


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


class TokenPooling:
    """``pool(tokens)``, tokens (n, F, S, D) float32, gives these vectors of each clip, float32:

    - ``mean`` and, if asked for, ``squares`` (n, D): means over all tokens of x and x^2;
    - ``token extremes`` (n, 2R): maxima and minima over all tokens of u_r . x, u_r (D,) random;
    - ``frame extremes`` (n, 2R): the same over frames, w_r (positions x D,) seeing a frame's positions side by side;
    - ``mean frame`` (n, positions x D): the mean over frames, if a frame has several positions;
    - ``change`` (n, D): the mean absolute difference of successive frames, if there are several.

    Nothing here is learned: the directions come from ``seed`` alone, so that clips of any step are seen alike.
    """

    def __init__(self, shape: tuple[int, int, int], seed: int, device: torch.device | str = "cpu"):
        frames, positions, width = shape
        self.frames, self.positions = frames, positions
        grid = positions if positions <= MOST_POSITIONS else len(_grid_cells(positions))
        generator = torch.Generator().manual_seed(seed)
        self.token_directions = _directions(width, generator, device)
        self.frame_directions = _directions(grid * width, generator, device)

    def __call__(self, tokens: torch.Tensor, squares: bool = False) -> dict[str, torch.Tensor]:
        flat, places = tokens.flatten(1, 2), self._places(tokens)
        pooled = {
            "mean": flat.mean(1),
            "token extremes": _extremes(flat @ self.token_directions),
            "frame extremes": _extremes(places.flatten(2) @ self.frame_directions),
        }
        if squares:
            pooled["squares"] = flat.square().mean(1)
        if self.positions > 1:
            pooled["mean frame"] = places.mean(1).flatten(1)
        if self.frames > 1:
            pooled["change"] = places.diff(dim=1).abs().mean((1, 2))
        return pooled

    def _places(self, tokens):
        """The tokens of each frame, of many positions the means over the cells of a grid: (n, F, <= 16, D)."""
        if self.positions <= MOST_POSITIONS:
            return tokens
        return torch.stack([tokens[:, :, cell].mean(2) for cell in _grid_cells(self.positions)], 2)


def _grid_cells(positions):
    """Positions of each cell: of a square map its quarters, otherwise four runs."""
    side = math.isqrt(positions)
    if side * side != positions:
        return torch.arange(positions).tensor_split(GRID * GRID)
    rows = torch.arange(positions).view(side, side).tensor_split(GRID)
    return [cell.flatten() for row in rows for cell in row.tensor_split(GRID, 1)]


def _directions(width, generator, device):
    """(width, R), such that a vector of ``width`` standard normal values has projections of deviation 1."""
    return (torch.randn(width, DIRECTIONS, generator=generator) / width**0.5).to(device)


def _extremes(values):
    """Maxima and minima over axis 1 of (n, K, R): (n, 2R)."""
    return torch.cat((values.amax(1), values.amin(1)), 1)

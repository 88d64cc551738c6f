"""Kernel ridge regression on the principal components of picture features."""

from __future__ import annotations

import torch
from torch import Tensor


class KernelRidge:
    """Owns the fit of some values to features; it never changes.

    Far from what it was fitted on it answers about the mean, so pictures of nothing move it little.
    """

    def __init__(
        self,
        features: Tensor,
        values: Tensor,
        *,
        num_components: int = 120,
        width: float = 1.5,
        strength: float = 1e-2,
    ) -> None:
        """
        Args:
            features: `[N, F]`
            values: `[N, V]`
            num_components: of the features that are kept.
            width: of the kernel, in median distances.
            strength: of the ridge.
        """
        self._middle = features.mean(0)
        _, _, rows = torch.linalg.svd(features - self._middle, full_matrices=False)
        self._axes = rows[:num_components].T
        self._points = (features - self._middle) @ self._axes
        distances = torch.cdist(self._points, self._points)
        self._width = width * float(distances.median()) + 1e-6
        self._mean, self._spread = values.mean(0), values.std(0) + 1e-6
        ridge = strength * torch.eye(len(features))
        targets = (values - self._mean) / self._spread
        self._weights = torch.linalg.solve(self._kernel(distances) + ridge, targets)

    def __call__(self, features: Tensor) -> Tensor:
        """`[N, F]` to `[N, V]`."""
        points = (features - self._middle) @ self._axes
        kernel = self._kernel(torch.cdist(points, self._points))
        return kernel @ self._weights * self._spread + self._mean

    def _kernel(self, distances: Tensor) -> Tensor:
        return torch.exp(-(distances**2) / (2 * self._width**2))

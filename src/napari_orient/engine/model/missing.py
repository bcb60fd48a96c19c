"""Voxels of a patch that lie beyond the tomogram: the forward model with what it predicts there taken out.

Beyond the tomogram's faces a patch is 0, and a template that reaches there is compared with nothing: the fit would move
the particle inwards, and rotate it. With E the operation that keeps what lies beyond a face, the whitened image m of
the template becomes m - E m, and so do its derivatives. Scores, information and competing modes are then those of the
voxels that there are: the noise is white along what is left, as it was before, as far as the window is large against
its correlation length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_orient.engine.model.forward import ForwardModel


def reaching_beyond(model: ForwardModel, bounds: Tensor, voxels: Tensor) -> Tensor:
    """Rows of the patches whose windows reach beyond the tomogram; parameters are those of `MissingVoxels.of`."""
    side = model.window.shape[-1]
    first, last = (bounds - voxels[:, None]).unbind(1)
    beyond = (first > -(side // 2)) | (last < side - side // 2 - 1)
    return beyond.any(1).nonzero().squeeze(1)


@dataclass(frozen=True, eq=False)
class MissingVoxels:
    """Voxels beyond the tomogram, of N windows of a forward model.

    Parameters
    ----------
    weights : (N, n, n, n) the window's where a voxel is missing, else 0; indexed [n, z, y, x].
    share : (N,) of the window's power that is missing, 0 to 1.
    """

    weights: Tensor
    share: Tensor

    @classmethod
    def of(cls, model: ForwardModel, bounds: Tensor, voxels: Tensor) -> MissingVoxels:
        """Those of patches observed about some of their voxels.

        Parameters
        ----------
        bounds : (N, 2, 3) the first and the last voxel xyz inside the tomogram, from each patch's centre.
        voxels : (N, 3) whole voxels xyz from the patch's centre to the point that is observed about.
        """
        side = model.window.shape[-1]
        place = torch.arange(side, device=model.window.device) - side // 2
        first, last = (bounds.to(voxels) - voxels[:, None])[..., None].unbind(1)
        x, y, z = ((place >= first) & (place <= last)).unbind(1)
        inside = z[:, :, None, None] & y[:, None, :, None] & x[:, None, None, :]
        weights = torch.where(inside, 0.0, model.window)
        share = weights.square().sum((1, 2, 3)) / model.window.square().sum()
        return cls(weights, share)

    def take(self, rows: Tensor) -> MissingVoxels:
        """Those of these windows."""
        return MissingVoxels(self.weights[rows], self.share[rows])

    def removed(self, model: ForwardModel, coefficients: Tensor) -> Tensor:
        """Whitened coefficients (N, C, 2, M) of images less what of them lies beyond the tomogram."""
        count, images = coefficients.shape[:2]
        values = torch.view_as_complex(coefficients.movedim(2, -1).contiguous()).flatten(0, 1)
        cubes = model.rendered(values).unflatten(0, (count, images)) * self.weights[:, None]
        beyond = model.transformed(cubes.flatten(0, 1)).view(count, images, -1, 2)
        return coefficients - beyond.movedim(-1, 2)

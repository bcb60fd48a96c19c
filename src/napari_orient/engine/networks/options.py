"""Architecture of a network: every option once, and the printed network; read without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option
from napari_orient.engine.symmetry import symmetry_option

_REPRESENTATIONS = ("6d", "quaternion", "euler", "9d")
"""The names in `engine.representations`, which needs torch."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """Architecture of the network. The defaults are the shipped one; `PAPER_NETWORK` is the printed one."""

    representation: str = option(
        "6d", help="how a rotation is written in the last layer", choices=_REPRESENTATIONS, expert=True
    )
    symmetry: str = symmetry_option()
    front_end: str = option(
        "masked",
        help="raw: the patch as it is; masked: binned, then a soft sphere",
        choices=("raw", "masked"),
        expert=True,
    )
    width: int = option(512, help="nodes of each hidden layer", low=1, high=8192, expert=True)
    depth: int = option(4, help="hidden layers", low=1, high=16, expert=True)
    dropout: float = option(
        0.1, help="share of hidden nodes left out at random while training", low=0, high=0.9, expert=True
    )
    initialisation: str = option(
        "scaled",
        help="paper: normal with deviation 0.05; scaled: by each layer's inputs",
        choices=("paper", "scaled"),
        expert=True,
    )
    patch_side: int = option(40, help="side of the patch", unit="voxels", low=8, high=128, expert=True)
    patch_voxel_size: float = option(10.0, help="voxel size of the patch", unit="Å", low=0.5, high=100)
    binning: int = option(2, help="masked front end: Fourier-bin the patch by this", low=1, high=8, expert=True)
    mask_radius: float = option(
        170.0, help="masked front end: radius of the sphere, to half height", unit="Å", low=5, high=5000
    )

    def __post_init__(self) -> None:
        """Check the options one by one, and that they fit together."""
        super().__post_init__()
        if self.patch_side % 2 or (self.patch_side // self.binning) % 2 or self.patch_side % self.binning:
            raise InputError(
                f"a patch of {self.patch_side} voxels binned by {self.binning} has no whole, even side; try 40 and 2."
            )


PAPER_NETWORK = NetworkOptions(front_end="raw", width=32, depth=4, dropout=0.0, initialisation="paper")
"""The network as printed: a raw 40³ patch, four hidden layers of 32 nodes, six outputs, 2,051,398 parameters."""

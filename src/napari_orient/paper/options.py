"""Size of the experiment: the paper's own, and a quick one that only shows that every stage runs."""

from __future__ import annotations

from dataclasses import dataclass

from napari_orient.engine.devices import ComputeOptions
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option, seed_option, suboptions
from napari_orient.engine.simulation_options import SimulationOptions


@dataclass(frozen=True, kw_only=True)
class ReproductionOptions(Options):
    """Dataset, trainings and seed. The defaults are the paper's size."""

    tomograms: int = option(150, help="tomograms to simulate", low=2, high=10_000)
    test: int = option(20, help="of these, tomograms kept apart to test on", low=1, high=5_000)
    ribosomes: int = option(178, help="ribosomes in each tomogram", low=1, high=100_000)
    proteasomes: int = option(100, help="proteasomes in each tomogram; 0 leaves their part out", low=0, high=100_000)
    size_xy: int = option(256, help="width and height of a tomogram", unit="voxels", low=48, high=4096)
    size_z: int = option(128, help="thickness of a tomogram", unit="voxels", low=48, high=2048)
    ablation: bool = option(True, help="also train networks that show how much each part matters")
    noise_tomograms: int = option(
        4, help="ablation: tomograms simulated at each signal-to-noise ratio", low=1, high=100, expert=True
    )
    epochs: int | None = option(
        None, help="at most so many epochs in any training; none: as each training says", low=1, expert=True
    )
    seed: int = seed_option("of dataset, split, weights and order")
    compute: ComputeOptions = suboptions(ComputeOptions)

    def __post_init__(self) -> None:
        """Check every field, and that some tomograms are left to train on."""
        super().__post_init__()
        if self.test >= self.tomograms:
            raise InputError(f"{self.test} of {self.tomograms} tomograms to test on; expected some left to train on.")

    def simulation(self, *, snr: tuple[float, float] = (1.0, 2.0)) -> SimulationOptions:
        """Options of the tomograms: PolNet's acquisition, with micrographs of signal-to-noise between these."""
        return SimulationOptions(
            size_x=self.size_xy, size_y=self.size_xy, size_z=self.size_z, snr_low=snr[0], snr_high=snr[1]
        )


SCALES = {
    "paper": ReproductionOptions(),
    "quick": ReproductionOptions(
        tomograms=8,
        test=2,
        ribosomes=24,
        proteasomes=16,
        size_xy=128,
        size_z=64,
        ablation=False,
        noise_tomograms=1,
        epochs=4,
    ),
}
"""Options by name. The quick scale runs every stage in minutes; its numbers mean nothing."""

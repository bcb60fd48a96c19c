"""Options of a run over many tomograms: in this process, in several, on a Dask cluster, or as jobs of SLURM."""

from __future__ import annotations

import re
from dataclasses import dataclass

from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option

LOCAL, SLURM, ADDRESS = "local", "slurm", "address"

_COUNTED = re.compile(r"(local|slurm)(?::(\d+))?$")
_ADDRESS = re.compile(r"(\w+://)?[\w.\-\[\]:]+:\d+$")
_MEMORY = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B$", re.IGNORECASE)
_TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}$")


@dataclass(frozen=True, kw_only=True)
class SchedulerOptions(Options):
    """Where tomograms are worked on, and how often one is tried again.

    Raises
    ------
    InputError
        If the scheduler is of no such form, or SLURM's memory or time is none.
    """

    scheduler: str = option(
        "",
        help="empty: this process; local:N: N processes of this machine; ADDRESS (tcp://host:8786) of a Dask "
        "scheduler, or its file; slurm:N: N jobs of SLURM",
    )
    retries: int = option(
        2, help="times that a tomogram is tried again whose worker died or could not read", low=0, high=20, expert=True
    )
    slurm_partition: str = option("", help="partition of the jobs; empty for the cluster's own", expert=True)
    slurm_account: str = option("", help="account of the jobs; empty for the user's own", expert=True)
    slurm_time: str = option("08:00:00", help="longest time of a job, as SLURM writes it", expert=True)
    slurm_memory: str = option("16GB", help="memory of a job", expert=True)
    slurm_cores: int = option(4, help="cores of a job", low=1, high=1024, expert=True)
    slurm_options: str = option(
        "", help="further flags of sbatch, such as --slurm-options='--gres=gpu:1 --exclude=node7'", expert=True
    )
    slurm_setup: str = option(
        "", help="commands of the shell before the work, such as module load cuda; several with ; between", expert=True
    )

    def __post_init__(self) -> None:
        """Check the scheduler, and SLURM's memory and time."""
        super().__post_init__()
        if self.scheduler and self.kind is None:
            raise InputError(
                f"scheduler is {self.scheduler!r}; expected local:N, slurm:N, or the address or file of a Dask "
                "scheduler (tcp://host:8786)."
            )
        if self.scheduler and self.kind != ADDRESS and self.count == 0:
            raise InputError(f"scheduler is {self.scheduler!r}; expected at least one process or job.")
        if not _MEMORY.match(self.slurm_memory):
            raise InputError(f"slurm_memory is {self.slurm_memory!r}; expected a number with its unit, such as 16GB.")
        if not _TIME.match(self.slurm_time):
            raise InputError(f"slurm_time is {self.slurm_time!r}; expected hours, minutes, seconds, such as 08:00:00.")

    @property
    def kind(self) -> str | None:
        """``local``, ``slurm`` or ``address``; None for this process, and for what is none of them."""
        found = _COUNTED.match(self.scheduler)
        if found:
            return found[1]
        is_address = _ADDRESS.match(self.scheduler) or self.scheduler.endswith(".json")
        return ADDRESS if is_address else None

    @property
    def count(self) -> int:
        """Processes or jobs that are asked for; 1 where no number is given."""
        found = _COUNTED.match(self.scheduler)
        return int(found[2]) if found and found[2] else 1

    @property
    def words(self) -> str:
        """Where the tomograms are worked on, in words."""
        several = "" if self.count == 1 else ("es" if self.kind == LOCAL else "s")
        return {
            None: "this process",
            LOCAL: f"{self.count} process{several} of this machine",
            SLURM: f"{self.count} job{several} of SLURM",
            ADDRESS: f"the Dask cluster at {self.scheduler}",
        }[self.kind]

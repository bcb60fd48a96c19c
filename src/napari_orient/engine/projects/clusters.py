"""Clusters of Dask: processes of this machine, one for each GPU where there are some; a scheduler's address; SLURM."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from napari_orient.engine.errors import InputError
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.scheduler_options import LOCAL, SLURM, SchedulerOptions

_CONNECT = "10s"
"""Longest wait for the answer of a scheduler; chosen: a busy one on another machine answers within seconds."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PRE_SPAWN = "distributed.nanny.pre-spawn-environ"


_SETTINGS: Mapping[str, Any] = {
    # A worker on which a long operation holds the interpreter is alive.
    "distributed.scheduler.worker-ttl": None,
    "distributed.admin.tick.limit": "10m",
    "distributed.admin.large-graph-warning-threshold": "1GB",
    # A tomogram takes longer than to send the model to a worker that has nothing to do.
    "distributed.scheduler.unknown-task-duration": "60s",
    # Dask watches itself many times a second, which costs a tenth of a core in each process.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
    "distributed.worker.profile.interval": "10s",
    "distributed.worker.memory.monitor-interval": "10s",
}
"""Settings of Dask in this process and in the workers that it starts."""


@contextmanager
def connected(options: SchedulerOptions, *, tomograms: int) -> Iterator[Any]:
    """Context with a client of the cluster that the options name; what it started ends with it.

    Parameters
    ----------
    tomograms : how many there are to do: no more workers are started.

    Raises
    ------
    InputError
        If Dask is not installed, or the scheduler does not answer.
    """
    dask, distributed = _dask()
    settings = {
        "distributed.scheduler.allowed-failures": options.retries,
        "distributed.comm.timeouts.connect": _CONNECT,
    }
    with dask.config.set({**_SETTINGS, **settings}), _cluster(distributed, options, tomograms) as address:
        try:
            client = distributed.Client(**address, timeout=_CONNECT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"the Dask scheduler at {options.scheduler} does not answer ({error}). Start it (dask scheduler), or "
                "check the address."
            ) from error
        with client:
            yield client


def _dask() -> tuple[Any, Any]:
    try:
        return import_module("dask"), import_module("distributed")
    except ImportError as error:
        raise InputError(
            "tomograms side by side need the package distributed: pip install 'napari-orient[cluster]'."
        ) from error


@contextmanager
def _cluster(distributed: Any, options: SchedulerOptions, tomograms: int) -> Iterator[dict[str, Any]]:
    """Context with how a client finds a cluster: one that is started, or the address or file of a scheduler."""
    if options.kind == LOCAL:
        with _local(distributed, min(options.count, tomograms)) as cluster:
            yield {"address": cluster}
    elif options.kind == SLURM:
        with slurm_cluster(options) as cluster:
            count = min(options.count, tomograms)
            # Jobs that end at their longest time are submitted again.
            cluster.adapt(minimum_jobs=count, maximum_jobs=count)
            yield {"address": cluster}
    elif options.scheduler.endswith(".json"):
        yield {"scheduler_file": str(existing_file(options.scheduler))}
    else:
        yield {"address": options.scheduler}


# --- this machine ---------------------------------------------------------------------------------------------------


def _local(distributed: Any, count: int) -> Any:
    """Cluster of processes of this machine, each with its share of the cores, and with a GPU of its own in turn."""
    dask, _ = _dask()
    threads = str(max(1, _cores() // count))
    # Not Dask's own MALLOC_TRIM_THRESHOLD_, which gives memory back and takes it anew for every tensor.
    with dask.config.set({_PRE_SPAWN: dict.fromkeys(_THREADS, threads)}):
        workers = {
            index: {"cls": distributed.Nanny, "options": {**_WORKER, "env": gpu_environment(index, _gpus())}}
            for index in range(count)
        }
        scheduler = {"cls": distributed.Scheduler, "options": {"host": "127.0.0.1", "port": 0, **_NO_PAGE}}
        return distributed.SpecCluster(workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


_NO_PAGE: Mapping[str, Any] = {"dashboard": False, "dashboard_address": ":0"}
"""Options of a scheduler that shows no page, and takes whatever port is free."""
_WORKER: Mapping[str, Any] = {
    "host": "127.0.0.1",
    "nthreads": 1,
    # Dask counts mapped files as memory of the worker, and would kill it for a large tomogram.
    "memory_limit": 0,
    "dashboard": False,
    "silence_logs": logging.CRITICAL,
}


def gpu_environment(index: int, gpus: list[str]) -> dict[str, str]:
    """Environment of a worker that lets it use one GPU alone; empty where there is none."""
    return {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [item.strip() for item in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if item.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


# --- SLURM ----------------------------------------------------------------------------------------------------------


def slurm_cluster(options: SchedulerOptions) -> Any:
    """Cluster whose workers are jobs of SLURM, without a job yet; what the options leave out is jobqueue.yaml's.

    Raises
    ------
    InputError
        If dask-jobqueue is not installed.
    """
    try:
        jobqueue: Any = import_module("dask_jobqueue")
    except ImportError as error:
        raise InputError("jobs of SLURM need dask-jobqueue: pip install 'napari-orient[cluster]'.") from error
    return jobqueue.SLURMCluster(
        job_name="napari-orient",
        queue=options.slurm_partition or None,
        account=options.slurm_account or None,
        walltime=options.slurm_time,
        memory=options.slurm_memory,
        cores=1,
        processes=1,
        # The job is watched by SLURM; Dask's own watch would have memory given back for every tensor.
        nanny=False,
        job_cpu=options.slurm_cores,
        job_extra_directives=shlex.split(options.slurm_options),
        job_script_prologue=[
            *(line.strip() for line in options.slurm_setup.split(";") if line.strip()),
            *(f"export {name}={options.slurm_cores}" for name in _THREADS),
        ],
        # As for the workers of this machine: mapped files are no memory.
        worker_extra_args=["--memory-limit", "0"],
        python=shlex.quote(sys.executable),
        scheduler_options=_NO_PAGE,
        silence_logs=logging.CRITICAL,
    )


def slurm_script(options: SchedulerOptions) -> str:
    """The script of each job, as it would be submitted.

    Raises
    ------
    InputError
        As `slurm_cluster`.
    """
    with slurm_cluster(options) as cluster:
        return str(cluster.job_script())

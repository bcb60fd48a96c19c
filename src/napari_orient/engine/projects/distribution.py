"""Tomograms worked on side by side by Dask, one at a time on each worker: the options, the work, and the clusters.

A worker reads the tomogram's file itself. A worker that is killed loses the tomogram that it works on and no other:
answers are fetched as soon as they are there. Closing the stream stops the workers at their next step.

The cluster is one that is started here, of processes of this machine (one for each GPU where there are some) or of jobs
of SLURM, or one that runs already, by its scheduler's address.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import shlex
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from typing import Any

from napari_orient.engine.allocator import ENVIRONMENT
from napari_orient.engine.environment import machine_error
from napari_orient.engine.errors import InputError
from napari_orient.engine.options import Options, option
from napari_orient.engine.outputs import existing_file
from napari_orient.engine.particles import Particles, Tomogram
from napari_orient.engine.projects.stored_results import file_digest, file_stamp
from napari_orient.engine.projects.task import Outcome, TomogramSource, TomogramTask, outcome_of
from napari_orient.engine.streams import Step

LOCAL, SLURM, ADDRESS = "local", "slurm", "address"
"""Kinds of scheduler."""

_COUNTED = re.compile(r"(local|slurm)(?::(\d+))?$")
_ADDRESS = re.compile(r"(\w+://)?[\w.\-\[\]:]+:\d+$")
_MEMORY = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B$", re.IGNORECASE)
_TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}$")
_POLL = 0.1
"""Seconds between two searches for answers; chosen: an answer waits no longer, and Stop acts at once for a person."""
_HANDED_OVER = 10.0
"""Most seconds that a worker waits until its last answer is fetched, before it begins the next tomogram; chosen."""
_REPORT = 1.0
"""Least seconds between two reports of progress, and two questions for Stop, of a worker."""


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


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happened: news of a tomogram, by its place in the project, or a message alone."""

    index: int = -1
    news: Outcome | Step | None = None
    message: str = ""


def distribute(
    tasks: Mapping[int, tuple[Tomogram, Particles]],
    task: TomogramTask,
    options: SchedulerOptions,
    *,
    digests: bool = False,
) -> Iterator[Event]:
    """What happens while the task is done for these tomograms: their progress and outcomes, an event a second at least.

    Parameters
    ----------
    digests : whether workers compute the digests of the tomograms' files too, which they have just read.

    Raises
    ------
    InputError
        If Dask is not installed, or the scheduler cannot be reached or goes away.
    """
    name = f"napari-orient-{uuid.uuid4().hex[:12]}"
    yield Event(message=f"Starting {options.words}")
    with connected(options, tomograms=len(tasks)) as client, _reports(client, name) as reports:
        held = client.submit(_same, task, key=f"{name}-task", pure=False)
        waiting = iter(tasks.items())
        futures: dict[Any, int] = {}
        workers, counted = 0, 0.0
        try:
            while True:
                # As many tomograms as there are workers: Dask would give several to the first one that is there.
                if time.monotonic() - counted > _REPORT:
                    workers, counted = len(client.scheduler_info(n_workers=-1)["workers"]), time.monotonic()
                for index, (tomogram, particles) in islice(waiting, max(0, max(workers, 1) - len(futures))):
                    arguments = (held, TomogramSource.of(tomogram), particles, (index, name), digests)
                    future = client.submit(work, *arguments, key=f"{name}-{index}", pure=False, retries=options.retries)
                    futures[future] = index
                if not futures:
                    return
                yield from _fetched(futures)
                yield from _drained(reports)
                yield Event(message="" if workers else "Waiting for workers")
                time.sleep(_POLL)
        finally:
            _stop(client, name, futures)


def _fetched(futures: dict[Any, int]) -> Iterator[Event]:
    """The outcomes that are there; their futures are taken out."""
    for future in [item for item in futures if item.done()]:
        index = futures.pop(future)
        if future.status == "finished":
            yield Event(index, future.result())
        elif future.status == "error":
            yield Event(index, Outcome(error=_words(future.exception())))
        else:
            raise InputError("the Dask scheduler went away; what is done is kept. Start it, and run with --resume.")


def _words(error: BaseException) -> str:
    """What was wrong with a task that Dask gave up."""
    if type(error).__name__ == "KilledWorker":
        return "every worker that tried it died; was there too little memory?"
    return str(machine_error(error) or f"{type(error).__name__}: {error}")


@contextmanager
def _reports(client: Any, topic: str) -> Iterator[queue.SimpleQueue[Event]]:
    """Context with the queue of the workers' reports of progress."""
    found: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def report(event: tuple[float, tuple[int, int, int, str]]) -> None:
        index, done, total, message = event[1]
        found.put(Event(index, Step(done, total, message)))

    client.subscribe_topic(topic, report)
    yield found


def _drained(reports: queue.SimpleQueue[Event]) -> Iterator[Event]:
    while not reports.empty():
        yield reports.get()


def _stop(client: Any, name: str, futures: Mapping[Any, int]) -> None:
    """Have the workers stop, if some are still at work."""
    if not futures or client.status != "running":
        return
    _distributed().Event(name, client=client).set()
    client.cancel(list(futures), force=True)


def _distributed() -> Any:
    """The package distributed, whose functions carry no types."""
    return import_module("distributed")


# --- on a worker ----------------------------------------------------------------------------------------------------


def _same(task: TomogramTask) -> TomogramTask:
    """The task, as a future that workers fetch once, and the scheduler can make again."""
    return task


def _hand_over(worker: Any, name: str) -> None:
    """Wait until the worker's last answer is fetched: a worker that is killed then loses one tomogram alone."""
    end = time.monotonic() + _HANDED_OVER
    while time.monotonic() < end:
        held = [str(key) for key in list(worker.data)]
        if not any(key.startswith(name) and not key.endswith("-task") for key in held):
            return
        time.sleep(_POLL / 2)


def work(
    task: TomogramTask, source: TomogramSource, particles: Particles, place: tuple[int, str], digest: bool
) -> Outcome:
    """The outcome of the task for one tomogram, on a worker of Dask.

    Parameters
    ----------
    place : of the tomogram in the project, and the topic that its progress goes to.
    digest : whether the digest of its file is computed too.
    """
    index, name = place
    dask = _distributed()
    worker, flag, reported = dask.get_worker(), dask.Event(name), 0.0
    _hand_over(worker, name)
    try:
        stream = outcome_of(task, source.open(), particles)
    except InputError as error:
        return Outcome(error=str(error))
    try:
        while True:
            step = next(stream)
            if time.monotonic() - reported > _REPORT:
                worker.log_event(name, (index, step.done, step.total, step.message))
                if flag.is_set():
                    return Outcome(error="stopped.")
                reported = time.monotonic()
    except StopIteration as end:
        outcome: Outcome = end.value
        if digest and source.path is not None and outcome.particles is not None:
            return replace(outcome, file_digest=(file_stamp(source.path), file_digest(source.path)))
        return outcome
    finally:
        stream.close()


# --- clusters ---------------------------------------------------------------------------------------------------------

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
    with dask.config.set({_PRE_SPAWN: {**dict.fromkeys(_THREADS, threads), **ENVIRONMENT}}):
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

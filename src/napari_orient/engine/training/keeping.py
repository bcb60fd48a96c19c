"""What training leaves on disk as it goes: the best network so far, and the state to go on from."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from napari_orient.engine.errors import InputError
from napari_orient.engine.networks.checkpoint import Checkpoint
from napari_orient.engine.outputs import check_writable
from napari_orient.engine.streams import Step, Stream
from napari_orient.engine.training.course import Epoch, Milestone


def checkpoint_places(output: Path) -> tuple[Path, Path]:
    """The checkpoint's file and that of the state beside it, both writable.

    Raises
    ------
    InputError
        If the name does not end in .safetensors, or the place cannot be written.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output} given as checkpoint; expected a name that ends in .safetensors.")
    check_writable(output)
    return output, output.with_suffix(".resume")


def kept(stream: Generator[Step, None, Checkpoint], output: Path, state: Path) -> Stream[Step, Checkpoint]:
    """The same stream; after every milestone the checkpoint, where it became better, and after every epoch the state.

    The state is taken away when training has come to its end.
    """
    best = None
    try:
        while True:
            step = next(stream)
            if isinstance(step, Epoch):
                step.state.save(state)
            if isinstance(step, Milestone) and step.checkpoint is not best:
                best = step.checkpoint
                best.save(output)
            yield step
    except StopIteration as end:
        state.unlink(missing_ok=True)
        answer: Checkpoint = end.value
        return answer
    finally:
        stream.close()

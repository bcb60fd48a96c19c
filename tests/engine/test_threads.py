"""Threads: one inside an operation while the engine works, and nothing of it left behind or seen elsewhere."""

import threading

import pytest
import torch
from streams import followed

from napari_orient.engine.devices import (
    in_parallel,
    side_by_side,
    single_threaded,
    single_threaded_steps,
    worker_count,
)
from napari_orient.engine.streams import NoteWarning


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def asked_of_a_new_thread() -> int:
    answer = []
    thread = threading.Thread(target=lambda: answer.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return answer[0]


def test_single_threaded_holds_in_this_thread_alone_and_ends():
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def another_plugin():
        torch.get_num_threads()
        begun.set()
        go_on.wait()
        seen.append(torch.get_num_threads())

    plugin = threading.Thread(target=another_plugin)
    plugin.start()
    begun.wait()
    with single_threaded():
        assert torch.get_num_threads() == 1
        assert worker_count() == 2
        assert asked_of_a_new_thread() == 2
        go_on.set()
        plugin.join()
    assert seen == [2]
    assert torch.get_num_threads() == asked_of_a_new_thread() == worker_count() == 2


def test_single_threaded_ends_with_an_error_and_may_be_nested():
    def fail():
        with single_threaded(), single_threaded():
            assert torch.get_num_threads() == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.get_num_threads() == 2


def test_a_stream_is_single_threaded_at_its_steps_and_not_between_them():
    ended = []

    @single_threaded_steps
    def stream(count):
        try:
            for _ in range(count):
                yield torch.get_num_threads()
            return torch.get_num_threads(), worker_count()
        finally:
            ended.append(True)

    steps = stream(2)
    assert next(steps) == 1
    assert torch.get_num_threads() == 2
    assert next(steps) == 1
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == (1, 2)
    stopped = stream(5)
    next(stopped)
    stopped.close()
    assert ended == [True, True]
    assert torch.get_num_threads() == 2


def test_parts_are_worked_on_side_by_side_each_in_one_thread_and_answered_in_order():
    together = threading.Barrier(2, timeout=20)

    def work(part):
        together.wait()
        # A worker's own parts come one after another.
        return part, torch.get_num_threads(), worker_count(), in_parallel(lambda item: item, [part, part])

    assert in_parallel(work, range(4)) == [(part, 1, 1, [part, part]) for part in range(4)]
    assert asked_of_a_new_thread() == torch.get_num_threads() == 2


def test_with_one_thread_or_on_a_gpu_parts_come_one_after_another_here():
    here = threading.get_ident()
    gpu = torch.device("cuda")
    assert in_parallel(lambda _: threading.get_ident(), range(3), device=gpu) == [here] * 3
    torch.set_num_threads(1)
    assert in_parallel(lambda _: threading.get_ident(), range(3)) == [here] * 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_workers_keep_gradients_and_inference_as_they_are_here(mode):
    def seen(_=None):
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    with mode():
        assert in_parallel(seen, range(2)) == [seen()] * 2


def test_an_error_in_a_part_is_raised_here():
    def work(part):
        raise ValueError(part)

    with pytest.raises(ValueError, match="0"):
        in_parallel(work, range(4))


def test_a_part_that_a_gpu_has_no_memory_for_is_halved_until_it_has():
    gpu, sizes = torch.device("cuda"), []

    def total(part: torch.Tensor) -> torch.Tensor:
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        sizes.append(len(part))
        return part.sum()

    with pytest.warns(NoteWarning, match="smaller batches"):
        answers = in_parallel(total, torch.arange(13).split(8), device=gpu)
    assert (sum(answers), sum(sizes), max(sizes)) == (78, 13, 2)
    rows = torch.arange(13)
    with pytest.warns(NoteWarning):
        assert sum(in_parallel(lambda part: total(rows[part]), [slice(0, 8), slice(8, 13)], device=gpu)) == 78
    with pytest.raises(torch.OutOfMemoryError):
        in_parallel(lambda pair: total(pair[0]), [(rows, "whole")], device=gpu)


def counted(count, *, together=None, ended=None):
    """A stream of so many steps, each of which says its thread; the answer says how many workers it had."""
    try:
        for number in range(count):
            if together is not None:
                together.wait()
            yield number, threading.get_ident()
        return count, torch.get_num_threads(), worker_count()
    finally:
        if ended is not None:
            ended.append(count)


CPU = torch.device("cpu")


def test_streams_step_side_by_side_each_in_a_thread_of_its_own_with_its_share_of_the_workers():
    torch.set_num_threads(4)
    together = threading.Barrier(2, timeout=20)
    steps, answers = followed(side_by_side([counted(3, together=together), counted(3, together=together)], device=CPU))
    assert answers == [(3, 1, 2), (3, 1, 2)]
    threads = [{step[1] for step in column} for column in zip(*steps, strict=True)]
    assert [len(own) for own in threads] == [1, 1]
    assert len(threads[0] | threads[1] | {threading.get_ident()}) == 3
    assert asked_of_a_new_thread() == torch.get_num_threads() == 4


def test_a_stream_that_ends_early_waits_for_the_others_and_all_are_closed_at_a_stop():
    steps, answers = followed(side_by_side([counted(1), counted(3)], device=CPU))
    assert [[None if step is None else step[0] for step in taken] for taken in steps] == [[0, 0], [None, 1], [None, 2]]
    assert [answer[0] for answer in answers] == [1, 3]
    ended: list[int] = []
    both = side_by_side([counted(5, ended=ended), counted(6, ended=ended)], device=CPU)
    next(both)
    both.close()
    assert ended == [5, 6]


def test_with_one_worker_or_on_a_gpu_streams_follow_each_other_here():
    here = threading.get_ident()
    expected = [[(0, here), None], [None, (0, here)]]
    assert followed(side_by_side([counted(1), counted(1)], device=torch.device("cuda")))[0] == expected
    torch.set_num_threads(1)
    assert followed(side_by_side([counted(1), counted(1)], device=CPU))[0] == expected


def test_an_error_in_one_of_the_streams_is_raised_here_and_closes_the_others():
    def failing():
        yield 0
        raise ValueError("of the second")

    ended: list[int] = []
    with pytest.raises(ValueError, match="of the second"):
        followed(side_by_side([counted(5, ended=ended), failing()], device=CPU))
    assert ended == [5]

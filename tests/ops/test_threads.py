"""The workers compute alone, and no other thread of the process notices."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from siammae.ops import threads
from siammae.ops.threads import in_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    threads._pool.cache_clear()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)
    threads._pool.cache_clear()


def born_now(task: Callable[[], int]) -> int:
    """What a new thread computes."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(task()))
    thread.start()
    thread.join()
    return found[0]


def test_workers_have_one_thread_each_and_results_keep_their_order() -> None:
    barrier = threading.Barrier(3)

    def work(number: int) -> tuple[int, int, int]:
        barrier.wait(timeout=30)  # all three workers are at it
        return number, torch.get_num_threads(), threading.get_ident()

    found = list(in_threads(work, range(3)))
    assert [(number, alone) for number, alone, _ in found] == [(0, 1), (1, 1), (2, 1)]
    assert len({ident for *_, ident in found}) == 3


def test_a_thread_born_while_the_operation_runs_keeps_the_process_s_number() -> None:
    running, done = threading.Event(), threading.Event()

    def work(number: int) -> int:
        running.set()
        assert done.wait(timeout=30)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        operation = pool.submit(lambda: list(in_threads(work, range(4))))
        assert running.wait(timeout=30)
        later = born_now(torch.get_num_threads)
        done.set()
        assert operation.result(timeout=30) == [1] * 4
    assert later == 3
    assert torch.get_num_threads() == 3
    assert born_now(torch.get_num_threads) == 3


def test_an_error_of_a_worker_comes_out_and_the_next_operation_works() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // number, range(4)))
    assert list(in_threads(lambda number: number + 1, range(4))) == [1, 2, 3, 4]
    assert torch.get_num_threads() == 3


def test_one_thread_starts_no_worker() -> None:
    torch.set_num_threads(1)
    assert set(in_threads(lambda _: threading.get_ident(), range(4))) == {threading.get_ident()}
    assert threads._pool.cache_info().currsize == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_workers_of_its_own() -> None:
    assert list(in_threads(lambda number: number, range(4))) == [0, 1, 2, 3]
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if list(in_threads(lambda number: number, range(4))) == [0, 1, 2, 3] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

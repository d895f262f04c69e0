"""Freed memory goes back to the system now and then."""

from classifier.engine.answering import Heap, open_heap


def test_it_trims_when_enough_went_through_and_counts_anew():
    trimmed = []
    heap = Heap(lambda: trimmed.append(True))
    for _ in range(8):
        heap.used_for(150_000)
    assert len(trimmed) == 2  # at 450,000 tokens and again at 900,000


def test_it_trims_at_once_where_it_is_told_to_and_counts_anew():
    trimmed = []
    heap = Heap(lambda: trimmed.append(True))
    heap.used_for(440_000)
    heap.trim()
    heap.used_for(440_000)
    assert len(trimmed) == 1


def test_a_c_library_without_trimming_is_left_alone():
    Heap(None).used_for(10**9)
    Heap(None).trim()


def test_this_process_can_be_asked():
    open_heap().used_for(10**9)

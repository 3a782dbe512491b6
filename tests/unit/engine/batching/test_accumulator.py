from __future__ import annotations

import threading
import time

from legit_embedding.engine.batching.accumulator import ITEM_OVERHEAD_BYTES, Accumulator
from legit_embedding.engine.batching.packer import FifoShelf, LengthShelf, Limits
from tests.unit.engine.backends import Item

NOW = time.time()
EACH = 8 + ITEM_OVERHEAD_BYTES


def accumulator(max_bytes: int = 10**9, max_items: int = 10**6) -> tuple[Accumulator, list[int]]:
    rooms: list[int] = []
    made = Accumulator(FifoShelf(), max_bytes, max_items, lambda: rooms.append(len(made)))
    return made, rooms


def test_it_is_full_in_bytes_until_a_quarter_is_free_again():
    queue, rooms = accumulator(max_bytes=8 * EACH)
    for n in range(8):
        assert not queue.full
        queue.put(Item(n))
    assert queue.full
    assert queue.bytes == 8 * EACH

    queue.pack(Limits(1, 1), NOW)
    assert queue.full
    assert rooms == []
    queue.pack(Limits(1, 1), NOW)
    assert not queue.full
    assert rooms == [6]
    queue.pack(Limits(10, 10), NOW)
    assert rooms == [6]
    assert queue.bytes == 0


def test_it_is_full_in_items():
    queue, _ = accumulator(max_items=3)
    for n in range(3):
        queue.put(Item(n))
    assert queue.full


def test_it_takes_what_comes_even_when_full():
    queue, _ = accumulator(max_items=1)
    assert all(queue.put(Item(n)) for n in range(5))
    assert len(queue) == 5


def test_cancelled_items_make_room_too():
    queue, rooms = accumulator(max_items=4)
    items = [Item(n) for n in range(4)]
    for item in items:
        queue.put(item)
    assert queue.remove(items[2])
    assert not queue.remove(items[2])
    assert rooms == [3]
    assert queue.bytes == 3 * EACH


def test_refused_items_are_not_counted_any_more():
    queue, _ = accumulator()
    items = [Item(n) for n in range(4)]
    for item in items:
        queue.put(item)
    items[1].cancelled = "revoked"
    pack = queue.pack(Limits(10, 10), NOW)
    assert pack.refused == [items[1]]
    assert queue.bytes == queue.cost == 0


def test_a_closed_one_gives_everything_back_and_takes_nothing():
    queue, rooms = accumulator(max_items=2)
    items = [Item(n) for n in range(2)]
    for item in items:
        queue.put(item)
    assert queue.close() == items
    assert not queue.put(Item(9))
    assert queue.full
    assert rooms == []
    assert queue.close() == []


def test_it_knows_since_when_the_oldest_waits():
    queue, _ = accumulator()
    assert queue.oldest_since() is None
    items = [Item(n) for n in range(2)]
    for item in items:
        queue.put(item)
    assert queue.oldest_since() == items[0].queued_at


def test_many_threads_put_while_one_packs():
    queue = Accumulator(LengthShelf(), 10**9, 10**6, lambda: None)
    items = [Item(n, length=1 + n % 50) for n in range(8000)]
    threads = [
        threading.Thread(target=lambda part: [queue.put(i) for i in part], args=(items[k::4],)) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    packed = []
    while any(thread.is_alive() for thread in threads) or len(queue):
        packed += queue.pack(Limits(500, 100), NOW).deliveries
    assert len(packed) == len(set(packed)) == 8000
    assert queue.bytes == queue.cost == 0


def test_interactive_items_do_not_keep_bulk_items_out():
    queue, rooms = accumulator(max_items=2)
    for n in range(5):
        item = Item(n)
        item.interactive = True
        queue.put(item)
    assert (len(queue), queue.full) == (5, False)
    queue.put(Item(5))
    queue.put(Item(6))
    assert queue.full
    queue.pack(Limits(6, 6), NOW)
    assert (rooms, queue.full, queue.bytes) == ([1], False, EACH)

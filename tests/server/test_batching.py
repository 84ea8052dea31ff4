"""Which requests become the next batch."""

import random

import pytest

from harness.server.batching import Policy, Queue
from harness.server.requests import Request

MANY = 1_000
MS = 1_000_000


def request(rows=1, kind=b"a", at=0):
    return Request(None, rows, kind, (), (), arrived_ns=at)


def queue(*requests, most=8, preferred=(), delay=0, limit=100, shares=True):
    made = Queue(Policy(most, preferred, delay, limit, shares))
    for one in requests:
        made.put(one)
    return made


def test_what_waits_is_taken_at_once_up_to_the_largest_batch():
    waiting = [request(at=number) for number in range(11)]
    made = queue(*waiting)
    assert made.take(0, MANY) == waiting[:8]
    assert made.take(0, MANY) == waiting[8:]
    assert made.take(0, MANY) == [] and made.waiting == 0


def test_samples_are_counted_and_not_requests():
    first, second, third = request(3), request(4), request(2)
    made = queue(first, second, third)
    assert made.take(0, MANY) == [first, second]


def test_only_requests_of_one_kind_share_a_batch_and_the_oldest_goes_first():
    a, b, other_a = request(kind=b"a", at=2), request(kind=b"b", at=1), request(kind=b"a", at=3)
    made = queue(a, b, other_a)
    assert made.take(9, MANY) == [b]
    assert made.take(9, MANY) == [a, other_a]


def test_a_free_model_waits_as_long_as_it_was_told_for_more():
    one = request(at=0)
    made = queue(one, delay=2 * MS)
    assert made.take(1 * MS, MANY) == []
    assert made.due_ns() == 2 * MS
    assert made.take(2 * MS, MANY) == [one]


def test_it_does_not_wait_when_nobody_is_left_who_could_send():
    one = request(at=0)
    assert queue(one, delay=2 * MS).take(0, others=0) == [one]


def test_a_full_batch_does_not_wait():
    waiting = [request() for _ in range(8)]
    assert queue(*waiting, delay=2 * MS).take(0, MANY) == waiting


def test_the_largest_preferred_size_that_is_there_is_taken():
    waiting = [request() for _ in range(7)]
    made = queue(*waiting, preferred=(2, 4), delay=2 * MS)
    assert made.take(0, MANY) == waiting[:4]
    assert made.take(0, MANY) == waiting[4:6]
    assert made.take(0, MANY) == []
    assert made.take(2 * MS, MANY) == waiting[6:]


def test_one_request_is_a_batch_of_its_own_where_outputs_cannot_be_shared_out():
    waiting = [request(), request()]
    made = queue(*waiting, shares=False)
    assert made.take(0, MANY) == waiting[:1]


def test_a_request_that_is_tried_again_is_alone_and_first():
    waiting, again = [request(at=5), request(at=6)], request(at=1)
    again.alone = True
    made = queue(*waiting)
    made.put_back(again)
    assert made.take(9, MANY) == [again]
    assert made.take(9, MANY) == waiting


def test_requests_whose_clients_hung_up_are_never_run():
    waiting = [request(at=number) for number in range(4)]
    waiting[0].gone = waiting[2].gone = True
    made = queue(*waiting)
    assert made.take(9, MANY) == [waiting[1], waiting[3]]
    assert made.waiting == 0


def test_what_waited_too_long_falls_out():
    old, young = request(at=1), request(at=5, kind=b"b")
    made = queue(old, young)
    assert list(made.expired(before_ns=3)) == [old]
    assert (made.waiting, made.take(9, MANY)) == (1, [young])


@pytest.mark.parametrize("seed", range(20))
def test_every_request_is_taken_once_and_no_batch_is_too_large(seed):
    draw = random.Random(seed)
    most, delay = draw.randint(1, 8), draw.choice([0, 3])
    preferred = tuple(size for size in draw.choice([(), (2,), (2, 4)]) if size <= most)
    made, seen, sent = queue(most=most, delay=delay, preferred=preferred), [], []
    for now in range(200):
        for _ in range(draw.randint(0, 3)):
            sent.append(request(draw.randint(1, most), draw.choice([b"a", b"b"]), now))
            made.put(sent[-1])
        if draw.random() < 0.7:
            batch = made.take(now, MANY)
            assert sum(one.rows for one in batch) <= most and len({one.signature for one in batch}) <= 1
            seen += batch
    while batch := made.take(10_000, MANY):
        seen += batch
    assert sorted(map(id, seen)) == sorted(map(id, sent)) and made.waiting == 0

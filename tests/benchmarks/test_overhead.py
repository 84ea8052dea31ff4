import time

from harness.loads.single_stream import SingleStream

QUERIES = 20_000
ROUNDS = 25


def nothing(prepared):
    return None


def bare_loop(run, batches, clock):
    """What cannot be saved: the call and two readings of the clock."""
    start = clock()
    for batch in batches:
        clock()
        run(batch)
        clock()
    return clock() - start


def test_a_timed_query_costs_at_most_one_microsecond_above_a_bare_loop(benchmark):
    load, clock, batches = SingleStream(), time.perf_counter_ns, [None] * 4
    round_of_batches = [batches[index % len(batches)] for index in range(QUERIES)]
    bare, timed = [], []

    def one_round():
        # In turn within one round: both meet the same neighbours. The best round is the one that was disturbed least.
        bare.append(bare_loop(nothing, round_of_batches, clock) / QUERIES)
        piece = load.take_slice(nothing, batches, QUERIES, clock)
        timed.append(piece.duration_ns / QUERIES)
        assert piece.queries == len(piece.latencies_ns) == QUERIES

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=3)
    above = min(timed) - min(bare)
    benchmark.extra_info["bare_ns"], benchmark.extra_info["above_ns"] = round(min(bare)), round(above)
    assert above <= 1_000, f"{above:.0f} ns a query above {min(bare):.0f} ns of a bare loop"

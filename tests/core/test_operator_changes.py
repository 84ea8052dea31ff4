import pytest

from harness.core.profile import OperatorTime, Profile, by_kind, changes, operator_table, telling_changes, told_of


def op(name, kind, calls, own_ns, where="cpu"):
    return OperatorTime(name, kind, where, calls, own_ns)


BASE = Profile(10, 5_000_000, (op("a", "MatMul", 10, 1_000_000), op("b", "MatMul", 10, 1_000_000), op("c", "Gelu", 10, 200_000)))
HEAD = Profile(20, 12_000_000, (op("a", "MatMul", 20, 2_000_000), op("b", "MatMul", 20, 5_000_000), op("d", "Cast", 40, 800_000)))


def test_arms_are_compared_by_what_a_query_takes_however_many_were_profiled():
    found = {(change.kind, change.name): change for change in changes(BASE, HEAD)}
    same, slower = found["MatMul", "a"], found["MatMul", "b"]
    assert (same.baseline_ns, same.candidate_ns, same.added_ns) == (100_000, 100_000, 0)
    assert (slower.baseline_ns, slower.candidate_ns, slower.baseline_calls, slower.candidate_calls) == (100_000, 250_000, 1, 1)


def test_an_operator_that_one_arm_does_not_have_adds_all_or_saves_all_of_its_time():
    found = {change.kind: change.added_ns for change in changes(BASE, HEAD) if change.kind != "MatMul"}
    assert found == {"Cast": 40_000, "Gelu": -20_000}


def test_those_first_that_add_most_and_what_explains_nothing_is_left_out():
    assert [change.name for change in changes(BASE, HEAD)] == ["b", "d", "a", "c"]
    assert [change.name for change in telling_changes(changes(BASE, HEAD))] == ["b", "d", "c"]
    assert [change.name for change in telling_changes(changes(BASE, HEAD), most=2)] == ["b", "d"]
    noise = Profile(1, 10, (op("x", "Add", 1, 1_000_000), op("y", "Add", 1, 1_010)))
    assert [change.name for change in telling_changes(changes(Profile(1, 10, (op("y", "Add", 1, 1_000),)), noise))] == ["x"]


def test_identical_profiles_have_nothing_to_tell():
    assert operator_table(BASE, BASE).kinds == operator_table(BASE, BASE).operators == ()


def test_types_are_summed_so_that_renamed_nodes_meet():
    renamed = Profile(10, 5_000_000, (op("fused", "MatMul", 10, 2_000_000), op("c", "Gelu", 10, 200_000)))
    assert operator_table(BASE, renamed).kinds == ()  # the same time in the same types
    assert {change.name for change in operator_table(BASE, renamed).operators} == {"a", "b", "fused"}
    assert [(one.kind, one.calls, one.own_ns) for one in by_kind(BASE).operators] == [("MatMul", 20, 2_000_000), ("Gelu", 10, 200_000)]


def test_the_same_operator_elsewhere_is_another_one():
    moved = Profile(10, 5_000_000, (op("a", "MatMul", 10, 3_000_000, "CPU"), op("b", "MatMul", 10, 1_000_000)))
    found = operator_table(BASE, moved).operators
    assert {(change.name, change.where) for change in found} >= {("a", "CPU"), ("a", "cpu")}


def test_two_profiles_of_one_arm_count_as_one():
    twice = BASE.with_more(BASE)
    assert (twice.queries, twice.wall_ns) == (20, 10_000_000)
    assert changes(BASE, twice) == changes(BASE, BASE)


@pytest.mark.parametrize(
    ("base", "head", "told"),
    [
        (
            op("/fc/MatMul", "MatMul", 10, 12_400_000),
            op("/fc/MatMul", "MatMul", 10, 16_500_000),
            "MatMul '/fc/MatMul' takes 410 µs of a query more: 1.24 ms to 1.65 ms",
        ),
        (
            op("", "Cast", 10, 100_000),
            op("", "Cast", 30, 300_000),
            "Cast takes 20.0 µs of a query more: 10.0 µs to 30.0 µs, 3 calls where there was 1",
        ),
        (
            op("", "Gelu", 20, 100_000),
            op("", "Gelu", 10, 50_000),
            "Gelu takes 5.00 µs of a query less: 10.0 µs to 5.00 µs, 1 call where there were 2",
        ),
    ],
)
def test_a_change_is_told_in_one_sentence(base, head, told):
    (change,) = changes(Profile(10, 1, (base,)), Profile(10, 1, (head,)))
    assert told_of(change) == told

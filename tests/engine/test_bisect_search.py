import pytest

from harness.core.bisection import Answer, Commit, Step, Stretch
from harness.engine.bisecting.search import MOST_UNDECIDED, most_steps, search


def commit(number):
    return Commit(f"c{number}", (f"c{number - 1}",), "author", "2026-11-28", f"change {number}")


def stretches(*contents):
    """One commit each; None cannot be read."""
    return [Stretch((commit(number),), content, "" if content else "unreadable") for number, content in enumerate(contents)]


def different(count):
    return stretches(*(f"content {number}" for number in range(count)))


class Oracle:
    """Answers by the truth, and counts how often it was asked; ``mute`` commits get another answer."""

    def __init__(self, first_bad, mute=(), answer=Answer.SKIPPED):
        self.first_bad, self.mute, self.answer = first_bad, mute, answer
        self.asked = []

    def __call__(self, good, asked, bad):
        number = int(asked.first.hash[1:])
        self.asked.append((int(good.first.hash[1:]), number, int(bad.first.hash[1:])))
        if number in self.mute:
            return Step(asked.first, self.answer, "by order")
        return Step(asked.first, Answer.BAD if number >= self.first_bad else Answer.GOOD, "")


@pytest.mark.parametrize("place", range(1, 13))
def test_every_place_of_twelve_is_found_in_four_steps_at_most(place):
    line, oracle = different(13), Oracle(place)
    left = search(line, oracle)
    assert [found.hash for found in left.suspects] == [f"c{place}"]
    assert left.good.first.hash == f"c{place - 1}"
    assert len(oracle.asked) <= most_steps(line) == 4


def test_neighbours_are_not_measured():
    oracle = Oracle(1)
    left = search(different(2), oracle)
    assert (oracle.asked, left.suspects) == ([], (commit(1),))


def test_every_question_has_the_present_ends():
    oracle = Oracle(7)
    search(different(13), oracle)
    assert oracle.asked == [(0, 6, 12), (6, 9, 12), (6, 7, 9)]


def test_a_commit_that_cannot_be_measured_is_passed_by_and_its_neighbour_is_asked():
    oracle = Oracle(9, mute={6})
    left = search(different(13), oracle)
    assert [found.hash for found in left.suspects] == ["c9"]
    assert [asked for _, asked, _ in oracle.asked][:2] == [6, 5]


def test_skipped_commits_beside_the_answer_stay_suspects():
    left = search(different(13), Oracle(7, mute={6, 7}))
    assert [found.hash for found in left.suspects] == ["c6", "c7", "c8"]


def test_what_cannot_be_read_is_never_asked_and_every_commit_of_it_is_suspect():
    unreadable = Stretch((commit(1), commit(2)), None, "no scenario")
    ends = Stretch((commit(0),), "a"), Stretch((commit(3), commit(4)), "b")
    oracle = Oracle(3)
    left = search([ends[0], unreadable, ends[1]], oracle)
    assert oracle.asked == []
    assert [found.hash for found in left.suspects] == ["c1", "c2", "c3"]


def test_a_second_commit_that_is_not_decided_ends_the_search():
    oracle = Oracle(7, mute=range(1, 12), answer=Answer.UNDECIDED)
    left = search(different(13), oracle)
    assert len(oracle.asked) == MOST_UNDECIDED
    assert [found.hash for found in left.suspects] == [f"c{number}" for number in range(1, 13)]


def test_a_change_that_was_reverted_is_answered_without_a_launch():
    oracle = Oracle(4)
    left = search(stretches("a", "x", "y", "a", "b"), oracle)
    assert (oracle.asked, left.good.first.hash, left.bad.first.hash) == ([], "c3", "c4")


def test_a_change_that_came_back_is_blamed_on_its_first_coming_only_where_it_stayed():
    """c1 is bad, c2 takes it back, c3 brings it again: both are first bad commits, and the later one is the one since which it is bad."""
    left = search(stretches("a", "b", "a", "b"), Oracle(3))
    assert [found.hash for found in left.suspects] == ["c3"]


@pytest.mark.parametrize(("contents", "steps"), [(2, 0), (3, 1), (5, 2), (9, 3), (13, 4)])
def test_so_many_answers_are_needed_at_most(contents, steps):
    assert most_steps(different(contents)) == steps

"""The statistics of a study, by studies whose truth is known."""

import numpy as np
import pytest

from sot_graph.evaluation.statistics import (
    Estimate,
    Preference,
    length_controlled_net,
    mean,
    median,
    questions_needed,
    ratio_of_sums,
    settle,
)


def simulated_study(seed, *, n, better=0.0, likes_first=0.0, likes_longer=0.0, by_ratio=True, always=None):
    """Outcomes and lengths of a judge with habits; `better` is how much the second arm's answers are."""
    draw = np.random.default_rng(seed)
    first = draw.lognormal(7.2, 0.4, n)
    second = first * draw.lognormal(0.3, 0.35, n)
    difference = np.log(second / first) if by_ratio else (second - first) / 700
    pull = draw.normal(better, 1.0, n) + likes_longer * difference

    def verdicts(pull_of_second):
        """`pull_of_second`: to the answer that stands second."""
        felt = pull_of_second - likes_first + draw.logistic(size=n)
        return [always or ("second" if each > 0.3 else "first" if each < -0.3 else "tie") for each in felt]

    outcomes = [
        settle(forward, backward).outcome for forward, backward in zip(verdicts(pull), verdicts(-pull), strict=True)
    ]
    return outcomes, [(int(one), int(other)) for one, other in zip(first, second, strict=True)]


@pytest.mark.parametrize("by_ratio", [True, False])
def test_a_judge_that_likes_what_is_first_and_what_is_longer_finds_no_winner_among_equals(by_ratio):
    studies = [simulated_study(n, n=1000, likes_first=1.5, likes_longer=2.0, by_ratio=by_ratio) for n in range(10)]
    assert np.mean([mean(outcomes).value for outcomes, _ in studies]) > 0.1  # both orders don't help against length
    assert abs(np.mean([length_controlled_net(*study).value for study in studies])) <= 0.05


def test_a_better_answer_stays_better_at_equal_length():
    outcomes, lengths = simulated_study(1, n=1000, better=1.0, likes_longer=2.0)
    controlled = length_controlled_net(outcomes, lengths)
    assert controlled.low > 0.1
    assert controlled.value < mean(outcomes).value


@pytest.mark.parametrize("choice", ["first", "second"])
def test_a_judge_that_always_says_the_same_place_finds_no_winner(choice):
    outcomes, lengths = simulated_study(1, n=100, always=choice)
    assert mean(outcomes).value == 0.0
    assert length_controlled_net(outcomes, lengths).value == pytest.approx(0.0, abs=1e-9)


def coverage(interval_of_study, truth, studies):
    """In which part of the studies the interval holds the truth. The bounds below leave two standard errors of it."""
    intervals = [interval_of_study(np.random.default_rng(seed)) for seed in range(studies)]
    return np.mean([each.low <= truth <= each.high for each in intervals])


def test_the_interval_of_a_net_win_rate_covers_the_truth_in_95_of_100_studies():
    def interval(draw):
        return mean(draw.choice([-1, 0, 1], size=150, p=(0.3, 0.3, 0.4)))

    assert 0.93 <= coverage(interval, truth=0.1, studies=1000) <= 0.97


def test_the_interval_of_a_speed_up_covers_the_truth_in_95_of_100_studies():
    def interval(draw):
        return median(draw.lognormal(np.log(2.0), 0.5, 150))

    assert 0.93 <= coverage(interval, truth=2.0, studies=600) <= 0.97


def test_the_interval_at_equal_length_covers_the_truth_in_95_of_100_studies():
    def interval(draw):
        first = draw.lognormal(7.2, 0.4, 150)
        second = first * draw.lognormal(0.0, 0.35, 150)
        outcomes = draw.choice([-1, 0, 1], size=150, p=(0.3, 0.4, 0.3))
        return length_controlled_net(outcomes, np.stack([first, second], axis=1))

    assert 0.92 <= coverage(interval, truth=0.0, studies=400) <= 0.98


@pytest.mark.parametrize(
    ("forward", "backward", "settled"),
    [
        ("second", "first", Preference(1, conflict=False)),
        ("first", "second", Preference(-1, conflict=False)),
        ("tie", "tie", Preference(0, conflict=False)),
        ("first", "first", Preference(0, conflict=True)),
        ("second", "second", Preference(0, conflict=True)),
        ("second", "tie", Preference(0, conflict=True)),
    ],
)
def test_only_what_both_orders_agree_on_counts(forward, backward, settled):
    assert settle(forward, backward) == settled


def test_answers_of_equal_length_need_no_control():
    outcomes = [1, 1, 1, -1, 0] * 20
    controlled = length_controlled_net(outcomes, [(500, 700)] * 100)
    assert controlled.value == pytest.approx(mean(outcomes).value, abs=0.01)


def test_a_ratio_is_of_the_sums():
    ratio = ratio_of_sums([30, 10], [10, 10])
    assert ratio.value == 2.0
    assert (ratio.low, ratio.high) == (1.0, 3.0)


def test_a_quarter_of_the_width_takes_sixteen_times_the_questions():
    assert questions_needed(Estimate(0.1, -0.1, 0.3, 50)) == 800


def test_the_same_rows_give_the_same_interval():
    assert mean([1, 0, -1, 1, 1]) == mean([1, 0, -1, 1, 1])

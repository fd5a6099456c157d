"""The checks of an answer's form, each by a text that has the fault and one that hasn't."""

import pytest

from sot_graph.evaluation.text_checks import CHECKS, average, check_answer

QUESTION = "How can I sleep better at night?"


def points(*texts, titles=("Regular bedtime", "Less evening caffeine", "Dark bedroom"), **more):
    return [{"title": title, "text": text, "status": "ok", **more} for title, text in zip(titles, texts, strict=False)]


GOOD = points(
    "Go to bed at the same hour every day, weekends included.",
    "Coffee keeps the brain alert for six hours: drink it before lunch.",
    "Heavy curtains shut out street lamps.",
)


def figure(name, expansions, question=QUESTION, answer=""):
    return check_answer(question, answer, expansions)[name]


def test_a_good_answer_has_nothing():
    found = check_answer(QUESTION, "", GOOD)
    assert list(found) == list(CHECKS)
    assert found.pop("language_match") == 1.0
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "texts", "share"),
    [
        ("equal_openings", ["A regular bedtime is a must.", "Caffeine is a drug.", "Dark rooms help."], 2 / 3),
        ("equal_openings", ["The first step is easy.", "First, sleep.", "The first step is hard."], 2 / 3),
        ("repeated_4grams", ["You will sleep much better.", "You will sleep much longer.", "Yes."], 2 / 4),
        ("repeated_4grams", ["It helps you to sleep, it helps you to sleep.", "No.", "Yes."], 0.0),
        (
            "near_double_sentences",
            ["Go to bed at the same time every day.", "Go to bed at the same time, every day!", "Rest."],
            1.0,
        ),
        ("introductions", ["Here are some tips.", "Sure! Drink less.", "Sleep."], 2 / 3),
        ("conclusions", ["Sleep. In conclusion, it matters.", "In conclusion matters. No.", "Overall, rest."], 2 / 3),
        ("headings_left", ["## Bedtime\nGo to bed.", "**Less evening caffeine**\nDrink tea.", "Rest."], 2 / 3),
        ("headings_left", ["Regular bedtime:\nGo to bed.", "**Coffee** is a drug.", "Rest."], 1 / 3),
        ("language_match", ["Gehen Sie jeden Tag zur gleichen Zeit ins Bett.", "Trinken Sie keinen Kaffee."], 0.0),
    ],
)
def test_each_fault_is_found(name, texts, share):
    assert figure(name, points(*texts)) == pytest.approx(share)


def test_points_that_failed_or_were_cut_are_counted():
    expansions = [
        {"title": "A", "text": "", "status": "failed"},
        {"title": "B", "text": "Half of a", "status": "ok", "truncated": True},
        {"title": "C", "text": "Half", "status": "timed_out"},
        {"title": "D", "text": "Whole.", "status": "ok"},
    ]
    assert figure("failed", expansions) == 0.25
    assert figure("cut", expansions) == 0.5


def test_a_direct_answer_is_checked_by_its_paragraphs():
    answer = "Sleep is a matter of habits.\n\nSleep is a matter of light.\n\nDrink less."
    assert figure("equal_openings", [], answer=answer) == pytest.approx(2 / 3)
    assert figure("failed", [], answer=answer) == 0.0


@pytest.mark.parametrize("answer", ["", "   ", "Yes", "…", "你好", "\ud800"])
def test_any_text_can_be_checked(answer):
    check_answer(answer, answer, [{"title": answer, "text": answer, "status": "ok"}])
    assert check_answer(answer, answer)["language_match"] is None


def test_the_average_leaves_out_what_could_not_be_told():
    rows = [{name: None for name in CHECKS}, {name: 0.5 for name in CHECKS}]
    assert set(average(rows).values()) == {0.5}
    assert set(average(rows[:1]).values()) == {None}

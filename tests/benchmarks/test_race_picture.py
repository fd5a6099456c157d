"""The moving picture of README, drawn of times that are known."""

from xml.etree import ElementTree

from benchmarks.race import PICTURE, TITLES, draw

NAMES = {"svg": "http://www.w3.org/2000/svg"}


def times(first, last, end):
    sections = {number: (first, last) for number in range(len(TITLES) + 1)}
    return {"sections": sections, "end": end, "first_word": first, "skeleton": first / 2}


def texts_of(root):
    return [text.text for text in root.iterfind(".//svg:text", NAMES)]


def test_the_picture_shows_the_times_of_both_ways():
    root = ElementTree.fromstring(draw({"direct": times(0.5, 8.0, 8.1), "skeleton": times(1.5, 2.3, 2.4)}))
    shown = texts_of(root)
    assert [text for text in shown if text.startswith("whole answer")] == ["whole answer: 8.1 s", "whole answer: 2.4 s"]
    assert [text for text in shown if text.startswith("first words")] == ["first words: 0.5 s", "first words: 1.5 s"]
    for moving in root.iterfind(".//svg:animate", NAMES):
        moments = [float(moment) for moment in moving.get("keyTimes").split(";")]
        assert moments == sorted(moments)
        assert moments[0] == 0
        assert len(moments) == len(moving.get("values").split(";"))


def test_the_picture_of_the_docs_has_every_title_on_both_sides():
    shown = texts_of(ElementTree.parse(PICTURE).getroot())
    for number, title in enumerate(TITLES, 1):
        assert shown.count(f"{number}. {title}") == 2

"""The learned router: what it decides, what it costs, and that its training is honest and repeatable."""
# ruff: noqa: RUF001

import json
import re
import subprocess
import sys
import threading

import pytest

from sot_graph import LearnedRouter, RouteDecision, SotConfigError
from sot_graph.routing import learned_router
from sot_graph.routing.glossary import leans_on_the_last
from sot_graph.routing.learned_features import MAX_CHARS, MAX_WORDS, extract, shortened
from sot_graph.routing.learned_router import MAX_BYTES
from training.router.questions import read_questions

# Written after the training and never trained on: a change that breaks several of them is a worse router.
LISTS = [
    "What are good ways to deal with a picky cat?",
    "List the advantages and disadvantages of working night shifts.",
    "Give me 6 tips for photographing birds",
    "Compare Kubernetes and Docker Swarm in terms of cost, learning curve and scaling.",
    "What are the main reasons why people emigrate?",
    "pros and cons of adopting a greyhound",
    "How can I make my balcony more attractive for butterflies?",
    "How to cope with stage fright",
    "What should I consider before I buy an electric bike?",
    "Describe the key features of Japanese gardens.",
    "What if the telegraph had never been invented?",
    "Explain the different types of volcanoes and how they differ.",
    "How does tourism affect mountain villages, their culture and their economy?",
    "Discuss the benefits and risks of artificial sweeteners.",
    "Why might a hotel decide to ban plastic bottles?",
    "any advice for a new stepfather? my stepdaughter is 11",
    "I start as a head nurse next month and most of the team is older than me. What can I do to be accepted?",
    "Which soft skills should a data scientist develop, and why?",
    "whats the benifits of cold showers",
    "Brainstorm some activities for a rainy day at a youth hostel.",
]
DIRECT = [
    "What is 348 divided by 12?",
    "Who composed The Planets?",
    "Write a poem about an abandoned railway station.",
    "Write a Python function that merges two sorted lists.",
    "Translate 'the bridge is closed' into Dutch.",
    "How many tennis balls fit into a bathtub? Estimate step by step.",
    "Pretend you are a lighthouse and tell me about the storm.",
    "You are a suspicious butler. Greet the inspector.",
    "Draft an email to my tutor asking for a new appointment.",
    "Solve 4x - 9 = 23 for x.",
    "Summarize the following text in one sentence: The river rose overnight and the mill was closed.",
    "My dishwasher stops after ten minutes and shows E24. I've cleaned the filter already. What does it mean?",
    "Is there a way to make `grep` print only the file names?",
    "What year did the Hindenburg crash?",
    "Continue the story: When the piano began to play by itself, Ida",
    "Extract all e-mail addresses from this text: write to a@b.org or c@d.net",
    "Prove that the square of an even number is even.",
    "Does a whale sleep?",
    "I get a KeyError in `config['port']` although the key is in the file. Why?\n\n```python\nprint(config)\n```",
    "good evening, nice to meet you",
]


@pytest.fixture(scope="module")
def router() -> LearnedRouter:
    return LearnedRouter()


def test_held_out_lists_take_the_skeleton(router):
    missed = [question for question in LISTS if router(question).route != "skeleton"]
    assert len(missed) <= 2, missed


def test_held_out_others_go_direct(router):
    wrong = [question for question in DIRECT if router(question).route != "direct"]
    assert len(wrong) <= 1, wrong


def test_held_out_questions_are_not_in_the_training_data():
    trained = {one.text.casefold() for one in read_questions()}
    assert not trained & {text.casefold() for text in LISTS + DIRECT}


def test_the_reason_names_what_spoke_for_it(router):
    decision = router("What are the most effective ways to learn juggling?")
    assert decision.route == "skeleton"
    assert re.search(r'asks for several .*"', decision.reason)
    assert router("Write a poem about the sea").reason.startswith("asks for a text to be written")


@pytest.mark.parametrize("question", [*LISTS, *DIRECT])
def test_a_reason_never_shows_a_topics_words(router, question):
    shown = " ".join(re.findall(r'"(.*?)"', router(f"zyzzogeton {question} Zyzzogeton?").reason))
    assert "zyzzogeton" not in shown


def test_confidence_is_that_of_the_route(router):
    for question in (*LISTS, *DIRECT):
        decision = router(question)
        likely = router.probability(question)
        expected = likely if decision.route == "skeleton" else 1 - likely
        assert decision.confidence == pytest.approx(expected, abs=1e-4)


def test_the_threshold_decides():
    question = LISTS[0]
    likely = LearnedRouter().probability(question)
    assert LearnedRouter(threshold=likely)(question).route == "skeleton"
    assert LearnedRouter(threshold=min(1.0, likely + 1e-6))(question).route == "direct"
    assert LearnedRouter(threshold=0)("What is 2 + 2?").route == "skeleton"


@pytest.mark.parametrize(
    "arguments",
    [{"threshold": 1.5}, {"threshold": -0.1}, {"threshold": "0.5"}, {"threshold": True}, {"threshold": float("nan")}],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(SotConfigError, match="LearnedRouter"):
        LearnedRouter(**arguments)


def test_a_question_that_is_no_text_is_refused(router):
    for ask in (router, router.probability):
        with pytest.raises(SotConfigError, match="must be a text"):
            ask(None)


@pytest.mark.parametrize(
    "question",
    ["", " \n\t", "?", "a" * 100_000, "how to " * 20_000, "\0\ud800", "\U0001f469\u200d\U0001f4bb" * 50, "$" * 9999,
     "`" * 9999, "\n" * 100_000, "({[<" * 2500, "\u202eWhat are the ways?", "1" * 5000, "in 99999 words",
     "\u0660 words in \u0663 words"],
)  # fmt: skip
def test_no_question_is_too_strange(router, question):
    decision = router(question)
    assert decision.route in {"skeleton", "direct"}
    assert 0 <= router.probability(question) <= 1
    assert decision.reason


def test_an_empty_question_goes_direct(router):
    assert router("  ") == RouteDecision("direct", "there is no question", 1.0)


IN_OTHER_LANGUAGES = {
    "German": ("Was sind die Vorteile von Solarenergie?", "Wie heißt der Fluss, der durch Wien fließt?"),
    "French": ("Quels sont les avantages de l'énergie solaire ?", "Qui a peint la Joconde ?"),
    "Spanish": ("¿Cuáles son las ventajas de la energía solar?", "¿Quién pintó el Guernica?"),
    "Portuguese": ("Quais são as vantagens da energia solar?", "Quem pintou a Mona Lisa?"),
    "Italian": ("Quali sono i vantaggi dell'energia solare?", "Chi ha dipinto la Gioconda?"),
    "Chinese": ("太阳能有什么优点", "维也纳的河叫什么名字?"),
    "Japanese": ("太陽エネルギーの利点を説明してください", "モナ・リザを描いたのは誰ですか?"),
    "Hindi": ("सौर ऊर्जा के क्या लाभ हैं?", "मोना लिसा किसने बनाई?"),
    "Arabic": ("ما هي مزايا الطاقة الشمسية؟", "من رسم الموناليزا؟"),
    "Russian": ("Какие преимущества дает солнечная энергия?", "Кто написал Мону Лизу?"),
}


@pytest.mark.parametrize("language", IN_OTHER_LANGUAGES)
def test_other_languages_are_read(router, language):
    routes = [router(question).route for question in IN_OTHER_LANGUAGES[language]]
    assert routes == ["skeleton", "direct"]


@pytest.mark.parametrize("question", ["태양광의 장점은 무엇인가요?", "Wat zijn de voordelen van zonne-energie?"])
def test_a_language_that_it_does_not_know_goes_direct_without_a_confidence(router, question):
    decision = router(question)
    assert (decision.route, decision.confidence) == ("direct", None)
    assert "language" in decision.reason


WAS_WRONG = {
    "Write a travel blog post about a recent trip to Hawaii, with cultural experiences and must-see attractions.": True,
    "Write a guide to composting for beginners": True,
    "Write a report on solar power for the board": True,
    "Draft a project proposal for a mobile app": True,
    "How do I migrate from Postgres 12 to 16?": True,
    "Plan a 5 day trip to Rome": True,
    "Tell me more about point 2": True,
    "Which gas do plants take in? A) Oxygen B) Carbon dioxide C) Helium. Choose one.": False,
    "What is the name of the river that runs through Vienna, and where does it end?": False,
    "Bob slips on wet stairs in a house that Emma owns and sues. Is she liable?": False,
    "Shorten this text: The river rose overnight and the mill was closed.": False,
}


@pytest.mark.parametrize(("question", "is_list"), WAS_WRONG.items())
def test_kinds_that_an_earlier_version_got_wrong(router, question, is_list):
    assert (router(question).route == "skeleton") is is_list


def test_a_follow_up_is_judged_by_what_it_leans_on(router):
    def after(question, follow_up):
        return router(follow_up, [{"role": "user", "content": question}, {"role": "assistant", "content": "So."}]).route

    lists = "What are the benefits of cycling to work?"
    assert after(lists, "And in winter?") == after(lists, "Tell me more about point 2") == "skeleton"
    assert after("Who composed The Planets?", "And when?") == "direct"
    assert after(lists, "Thanks!") == after(lists, "What is 2 + 2?") == "direct"
    assert router("And in winter?").route == "direct"
    assert after("Welche Vorteile hat das Radfahren?", "Und im Winter?") == "skeleton"


@pytest.mark.parametrize("follow_up", ["وفي الشتاء؟", "وماذا عن الشتاء؟", "و العيوب؟", "冬は？", "子供には?"])
def test_a_follow_up_is_known_where_and_is_no_word_of_its_own(router, follow_up):
    history = [{"role": "user", "content": "What are the benefits of cycling to work?"}]
    assert leans_on_the_last(follow_up)
    assert router(follow_up, history).route == "skeleton"


@pytest.mark.parametrize(
    "question",
    [
        "وضح لي الفرق",
        "والدي مريض، ماذا أفعل؟",
        "وقت الصلاة؟",
        "وفيات كورونا؟",
        "日本の首都は？",
        "冬は寒いですか？",
        "人生とは？",
        "والت ديزني من هو؟",
    ],
)
def test_a_question_of_its_own_is_no_follow_up(question):
    assert not leans_on_the_last(question)


def test_a_text_to_translate_is_still_an_english_question(router):
    assert router('Translate to English: "Was sind die Vorteile von Solarenergie?"').confidence is not None


def test_a_huge_question_costs_no_more_than_a_long_one():
    """Counted in what is read and looked up, which bounds the time on any machine."""
    for text in ("What are the best ways to do it? " * 4000, "word " * 40_000, "a? b. " * 20_000):
        assert len(shortened(text)) <= MAX_CHARS + 1
        found = extract(text)
        # A word has at most four phrases, one entry of its own and a handful of classes.
        assert len(found.values) <= MAX_WORDS * 10 + 100


def test_a_route_that_asks_no_model_imports_nothing_that_models_need():
    code = (
        "import sys\nfrom sot_graph import LearnedRouter\nLearnedRouter()('What is 2 + 2?')\n"
        "print([name for name in ('langchain_core', 'langgraph', 'openai', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_threads_get_the_same_decisions(router):
    expected = [router(question) for question in LISTS + DIRECT]
    results: list[list[RouteDecision]] = []
    barrier = threading.Barrier(4)

    def run():
        barrier.wait()
        results.append([router(question) for question in LISTS + DIRECT])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_decisions_do_not_depend_on_the_hash_seed():
    code = (
        "from sot_graph import LearnedRouter\n"
        f"r = LearnedRouter()\nfor q in {LISTS[:5] + DIRECT[:5]!r}: print(repr(r.probability(q)), r(q).reason)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


GOOD = {"format": 3, "bias": 0, "features": {"n:^": 0.1}}


def test_own_weights_are_used(tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps(GOOD | {"bias": 9}))
    assert LearnedRouter(weights=file)("What is 2 + 2?").route == "skeleton"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"[" * 200_000,
        b"cos\nsystem\n(S'true'\ntR.",
        b"null",
        b"[]",
        b"{}",
        json.dumps(GOOD | {"format": 2}).encode(),
        json.dumps(GOOD | {"features": []}).encode(),
        json.dumps(GOOD | {"features": {}}).encode(),
        json.dumps(GOOD | {"features": {"a": [1]}}).encode(),
        json.dumps(GOOD | {"features": {"a": [1, 2]}}).encode(),
        json.dumps(GOOD | {"features": {"a": "2"}}).encode(),
        json.dumps(GOOD | {"features": {"a": True}}).encode(),
        json.dumps(GOOD | {"features": {"a": float("nan")}}).encode(),
        json.dumps(GOOD | {"features": {"a": float("inf")}}).encode(),
        json.dumps(GOOD | {"bias": None}).encode(),
        json.dumps(GOOD | {"bias": 10**400}).encode(),
        b'{"format": 3, "bias": ' + b"9" * 6000 + b"}",
        json.dumps(GOOD).encode()[:-5],
        json.dumps(GOOD).encode() + b" " * MAX_BYTES,
    ],
)
def test_a_hostile_or_broken_weights_file_is_refused(tmp_path, content):
    file = tmp_path / "weights.json"
    file.write_bytes(content)
    with pytest.raises(SotConfigError, match=r"weights\.json"):
        LearnedRouter(weights=file)


def test_weights_of_many_questions_are_read_again(tmp_path):
    router = LearnedRouter()
    router._weights = {f"n:some phrase {number}": 0.125 for number in range(50_000)}
    router.save(tmp_path / "weights.json")
    assert LearnedRouter(weights=tmp_path / "weights.json")._weights.items() >= router._weights.items()


def test_what_is_said_of_a_broken_weights_file_is_what_its_owner_can_do(tmp_path, monkeypatch):
    file = tmp_path / "weights.json"
    file.write_text("{}")
    with pytest.raises(SotConfigError, match="Make one with `sot-graph route --train"):
        LearnedRouter(weights=file)
    monkeypatch.setattr(learned_router, "SHIPPED", file)
    with pytest.raises(SotConfigError, match="Install sot-graph again"):
        learned_router.shipped_weights.__wrapped__()


def test_a_missing_weights_file_is_refused(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SotConfigError, match="can't be read"):
            LearnedRouter(weights=path)


# --- Your own questions ---

# Of one kind that the shipped router doesn't send to a skeleton, and wants to be there.
OWN = [f"{ask} the {thing}" for thing in "abcdefghij" for ask in ("Dossier on", "Status of")]
LABELS = ["skeleton", "direct"] * 10


def test_it_learns_from_your_own_questions(router, tmp_path):
    assert router("Dossier on the k").route == "direct"
    own = LearnedRouter.train(OWN, LABELS)
    assert [own("Dossier on the k").route, own("Status of the k").route] == ["skeleton", "direct"]
    agree = sum(own(question).route == router(question).route for question in LISTS + DIRECT)
    assert agree >= len(LISTS + DIRECT) - 4  # what it knew it still knows
    own.save(tmp_path / "own.json")
    again = LearnedRouter(weights=tmp_path / "own.json")
    assert [again(question) for question in OWN] == [own(question) for question in OWN]


@pytest.mark.parametrize(
    ("questions", "labels", "says"),
    [
        (OWN, LABELS[:-1], "20 questions and 19 labels"),
        (OWN[:4], LABELS[:4], "20 or more"),
        (OWN, [True] * 20, "of both kinds"),
        (OWN, ["list"] * 20, "a label is"),
        ([None] * 20, LABELS, "must be a text"),
    ],
)
def test_nothing_is_learned_from_what_can_not_teach(questions, labels, says):
    with pytest.raises(SotConfigError, match=says):
        LearnedRouter.train(questions, labels)


@pytest.mark.parametrize(
    "question",
    [
        "Vilka är de största fördelarna med att lära sig ett andra språk?",
        "Jakie są główne korzyści z nauki drugiego języka?",
        "Mitkä ovat toisen kielen oppimisen tärkeimmät hyödyt?",
        "Apa manfaat utama belajar bahasa kedua?",
        "Melyek a második nyelv tanulásának fő előnyei?",
        "Ưu điểm của cáp quang là gì?",
        "Hvad er fordelene ved fiber?",
        "Hoe slaap ik beter?",
    ],
)
def test_a_question_in_a_language_that_it_does_not_read_has_no_confidence(router, question):
    decision = router(question)
    assert (decision.route, decision.confidence) == ("direct", None)


def test_questions_of_few_common_words_count_as_english(router):
    for question in (
        "Compare Gödel, Turing, Church",
        "Describe Schrödinger's cat experiment",
        "capital of burkina faso?",
        "Can dogs eat grapes?",
        "What’s Python’s GIL?",
        "Who’s Beyoncé’s husband?",
        "Roman Empire decline",
        "Kafka – RabbitMQ – differences",
        "Given f(x) = 2x^3 - 9x^2, find its extrema.",
    ):
        assert router(question).confidence is not None

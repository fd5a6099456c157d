"""Classes of words that say what kind of answer is wanted, whatever the topic is.

A topic's own words are not here on purpose: the router learns how people ask, not what about.
"""

from __future__ import annotations

__all__ = ["FUNCTION_WORDS", "WORD_CLASSES", "words_of"]

_CLASSES = {
    # Nouns that name a set of independent points.
    "POINTS": """
        way ways tip tips benefit benefits advantage advantages disadvantage disadvantages drawback drawbacks downside
        downsides upside upsides pro pros con cons cause causes effect effects consequence consequences implication
        implications impact impacts reason reasons factor factors difference differences similarity similarities
        challenge challenges strategy strategies technique techniques method methods idea ideas suggestion suggestions
        recommendation recommendations example examples feature features characteristic characteristics trait traits
        quality qualities principle principles practice practices mistake mistakes risk risks hazard hazards danger
        dangers threat threats concern concerns issue issues problem problems argument arguments theory theories
        explanation explanations application applications use uses aspect aspects element elements component components
        ingredient ingredients kind kinds type types category categories form forms sort sorts symptom symptoms sign
        signs clue clues hint hints indicator indicators option options alternative alternatives habit habits skill
        skills tool tools resource resources activity activities hobby hobbies role roles function functions duty duties
        responsibility responsibilities measure measures precaution precautions step steps stage stages phase phases
        trend trends lesson lessons strength strengths weakness weaknesses merit merits limitation limitations limits
        trade-off trade-offs tradeoffs consideration considerations criteria criterion rule rules right rights question
        questions thing things fact facts hack hacks trick tricks approach approaches opportunity opportunities barrier
        barriers obstacle obstacles objection objections perspective perspectives viewpoint viewpoints goal goals
        purpose purposes contributions achievements solutions remedies treatments interventions policies motives
        incentives dynamics attributes properties areas pillars significance importance
    """,
    # Adjectives and determiners that go with several points.
    "SEVERAL": """
        main major key primary important essential common typical popular potential possible effective best top various
        different several some many multiple numerous few other significant critical crucial biggest greatest useful
        practical creative basic fundamental famous notable interesting necessary ethical
    """,
    "COUNT": "two three four five six seven eight nine ten dozen",
    "COMPARE": """
        compare comparing comparison contrast differ differs differences versus vs vs. compared distinguish
        distinguishes similarities weigh
    """,
    "ADVISE": """
        advice advise recommend recommends suggest suggests suggestions guidance improve improving increase reduce
        prevent avoid handle cope overcome manage encourage prepare protect choose choosing help better develop
        maintain boost support learn stay become strengthen promote enhance considering consider considered
    """,
    "LISTING": "list lists enumerate outline name identify overview brainstorm checklist mention summary provide",
    "DISCUSS": "discuss analyze analyse evaluate assess examine explore debate",
    "EXPLAIN": "explain describe elaborate clarify",
    "AFFECT": """
        affect affects influence influences shape shapes change changes contribute contributes impact transform
        transformed
    """,
    # What is written as one flowing text.
    "WRITE": "write compose draft pen writing rewrite continue finish invent create generate craft retell tell",
    "PIECE": """
        story stories poem haiku limerick sonnet song lyrics letter email e-mail essay article blog post speech eulogy
        toast dialogue conversation scene screenplay script monologue novel chapter tale fable myth legend joke riddle
        rap rhyme paragraph sentence tweet caption slogan tagline headline obituary diary journal review memo report
        press description advertisement ad note reply message plot biography itinerary verse ballad lullaby skit sketch
        character abstract thesis introduction conclusion narrative fiction
    """,
    "PERSONA": "you're you are act pretend role-play roleplay persona imagine yourself speak",
    "TRANSFORM": """
        translate translation summarize summarise paraphrase rephrase rewrite reword shorten proofread correct edit
        simplify condense extract classify categorize categorise convert transcribe complete fill sort reverse replace
        transform turn parse format label detect rank
    """,
    "GIVEN": """
        following below above passage paragraph text sentence context input premise hypothesis article excerpt given
    """,
    "CODE": """
        python java javascript typescript c++ c# rust golang kotlin ruby perl php haskell sql html css bash shell regex
        json yaml xml csv api git github docker linux ubuntu windows unix vim emacs excel latex code program function
        script class method array string query algorithm compile compiler command terminal debug bug error exception
        pandas numpy django flask react node npm mysql postgres sqlite database android ios app variable loop pointer
        thread server browser file files directory folder install config kernel codemark
    """,
    "MATHS": """
        calculate compute solve prove proof show equation integral derivative matrix vector theorem probability sum
        product square root polynomial prime integer integers triangle circle radius angle perimeter area volume percent
        percentage fraction divisible average mean median factorial limit converge group ring topology evaluate
        simplify estimate roughly approximately reasoning step-by-step derive eigenvalue graph formulamark
    """,
    "FORMULA": """
        velocity acceleration force mass moles ph electron photon voltage current circuit resistor momentum quantum
    """,
    "QUANTITY": "many much long far fast tall old deep high heavy often big large wide",
    "BRIEF": "briefly short brief one-word simply quick quickly concise",
    "MEANING": """
        mean means meaning definition define word phrase idiom synonym pronounce spell grammar translate called plural
        etymology
    """,
    "STORY": """
        character characters book film movie episode season scene novel author plot chapter series game player
    """,
}

_FUNCTION_WORDS = """
    a about after again all also always am an and any anybody anyone are aren't as ask at be because been before being
    between both but by can can't cannot could did didn't do does doesn't doing don't down during each either else
    enough even ever every everyone everything exactly first for from get getting give given go going got had has hasn't
    have haven't having he her here him his how i i'd i'll i'm i've if in instead into is isn't it it's its just keep
    know last less let let's like look looking made make makes making may me might more most must my need needs neither
    never new no nobody none not nothing now of off on once one only or our out over own people person please possible
    really same say says see seen she should since so some somebody someone something still such sure take tell than
    thank thanks that that's the their them then there there's these they they're think this those through to too tried
    try trying under until up us use used using very want was wasn't way we we're were what what's when where whether
    which while who who's whom whose why will with without won't work works would wouldn't yes you you'd you're your
    yourself happen happened happens had world life history society modern human today difference year years day days
    time wrong true false good bad hard easy normal legal allowed safe okay ok start stop feel
    """
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that may stand in a learned phrase as they are; every other word is a blank in it."""


def words_of(name: str) -> list[str]:
    """The words of one class, sorted."""
    return sorted(set(_CLASSES[name].split()))


def _classes_by_word() -> dict[str, tuple[str, ...]]:
    classes: dict[str, tuple[str, ...]] = {}
    for name in _CLASSES:
        for word in words_of(name):
            classes[word] = (*classes.get(word, ()), name)
    return classes


WORD_CLASSES = _classes_by_word()
"""The classes of a word: one word may be in several."""

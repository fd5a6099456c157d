"""The profile for models of a few hundred million parameters: worked examples instead of instructions.

Measured on SmolLM2-135M-Instruct, which ignores or echoes longer instructions: what it can do is to go on with a
pattern. So each stage shows the pattern in chat turns, puts the beginning of the answer into the model's mouth,
and stops at the first sign of its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["SMALL_PROFILE"]

# Five kinds of question, so that no single one becomes the pattern; the last one weighs most. Noun phrases of two
# or three words: with examples that are nearer to sentences, the model's own titles become sentences.
_SKELETON_EXAMPLES = (
    (
        "Write a blog post about a weekend in Lisbon.",
        "1. Old town streets\n2. Yellow tram rides\n3. Custard tarts\n4. River sunset\n5. Fado music night\n"
        "6. Trip to Sintra",
    ),
    (
        "What caused the French Revolution?",
        "1. Royal debt\n2. Unfair taxes\n3. Bread shortages\n4. Enlightenment ideas\n5. A weak king",
    ),
    (
        "How can I sleep better at night?",
        "1. Regular bedtime\n2. Dark, cool bedroom\n3. Less evening caffeine\n4. Early screen curfew\n"
        "5. Daily exercise\n6. Calming routine",
    ),
    (
        "Is it better to lease or to buy a car?",
        "1. Monthly costs\n2. Long-term value\n3. Freedom to drive far\n4. Wear and repairs\n5. Latest models",
    ),
    (
        "How does a refrigerator keep food cold?",
        "1. Coolant in pipes\n2. Compressor pump\n3. Heat release outside\n4. Cold expansion\n5. Insulated walls\n"
        "6. Thermostat control",
    ),
)

_EXPANSION_EXAMPLES = (
    (
        "Question: How does a refrigerator keep food cold?\nPoint: Giving off heat outside",
        "**Giving off heat outside**: The hot, compressed gas flows through thin coils at the back of the "
        "refrigerator. There it cools down, turns into a liquid and passes its heat to the air of the kitchen.",
    ),
    (
        "Question: How can I sleep better at night?\nPoint: Less evening caffeine",
        "**Less evening caffeine**: Coffee, tea and cola keep the brain alert for six hours or more. Switch to "
        "water or herbal tea after lunch, and you will fall asleep more easily.",
    ),
)

# One sentence: after an example of two, the model often writes on until it is cut off.
_INTRODUCTION_EXAMPLES = (
    (
        "Question: How can I sleep better at night?\nPoints:\n1. Regular bedtime\n2. Less evening caffeine\n"
        "3. Calming routine\nIntroduction in one sentence:",
        "Good sleep is mostly a matter of habits.",
    ),
    (
        "Question: How does a refrigerator keep food cold?\nPoints:\n1. Coolant in pipes\n2. Compressor pump\n"
        "3. Heat release outside\nIntroduction in one sentence:",
        "A refrigerator keeps food cold by carrying heat from its inside to the air of the kitchen.",
    ),
)

_CONCLUSION_EXAMPLES = (
    (
        "Question: How does a refrigerator keep food cold?\nPoints:\n1. Coolant in pipes\nA coolant flows through "
        "pipes and takes up the heat of the food.\n\n2. Heat release outside\nThin coils at the back pass the heat to "
        "the air of the kitchen.\nConclusion in one sentence:",
        "So a refrigerator does not make cold: it moves heat from the food to the kitchen, again and again.",
    ),
    (
        "Question: How can I sleep better at night?\nPoints:\n1. Regular bedtime\nGo to bed at the same time every "
        "day.\n\n2. Less evening caffeine\nDrink herbal tea after lunch in place of coffee.\nConclusion in one sentence:",
        "With a steady rhythm and a quiet evening, most people fall asleep sooner and wake up rested.",
    ),
)

# Greedy: a model of this size wanders off at any temperature. llama.cpp's DRY sampler keeps it from looping; it
# looks at whole repeated sequences, so that single words may come back. Other servers ignore these fields.
_SKELETON_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "temperature": 0.0,
        "max_tokens": 90,
        "stop": ["\n\n", "\n9."],
        "extra_body": {
            "dry_multiplier": 1.0,
            "dry_base": 1.75,
            "dry_allowed_length": 1,
            "dry_penalty_last_n": 64,
            "dry_sequence_breakers": ["\n"],
        },
    }
)

_EXPANSION_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "temperature": 0.0,
        "max_tokens": 80,
        "stop": ["\n"],
        "extra_body": {
            "dry_multiplier": 1.2,
            "dry_base": 2.0,
            "dry_allowed_length": 2,
            "dry_penalty_last_n": 128,
        },
    }
)

_DIRECT_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "temperature": 0.0,
        "max_tokens": 400,
        "extra_body": {
            "dry_multiplier": 0.8,
            "dry_base": 1.75,
            "dry_allowed_length": 3,
            "dry_penalty_last_n": 256,
        },
    }
)

SMALL_PROFILE: Mapping[str, Any] = MappingProxyType(
    {
        "system": (
            "You plan the answer to a question. Reply only with a numbered list of 4 to 8 different key points, "
            "each of 2 to 4 words, never a sentence."
        ),
        "skeleton_list": "{question}",
        "skeleton_examples": _SKELETON_EXAMPLES,
        "skeleton_prefill": "1.",
        "skeleton_settings": _SKELETON_SETTINGS,
        "expansion": "Question: {question}\nPoint: {title}",
        "expansion_system": "You explain one point of the answer to a question in two short, clear sentences.",
        "expansion_examples": _EXPANSION_EXAMPLES,
        "expansion_prefill": "**{title}**:",
        "expansion_settings": _EXPANSION_SETTINGS,
        "expansion_layout": "standalone",
        "introduction": "Question: {question}\nPoints:\n{skeleton}\nIntroduction in one sentence:",
        "introduction_examples": _INTRODUCTION_EXAMPLES,
        "conclusion": "Question: {question}\nPoints:\n{points}\nConclusion in one sentence:",
        "conclusion_examples": _CONCLUSION_EXAMPLES,
        "frame_system": "You introduce or conclude an answer in one short, clear sentence, never a list.",
        "frame_settings": _EXPANSION_SETTINGS,
        "frame_layout": "standalone",
        "direct": "{question}",
        "direct_system": "You are a helpful assistant. Answer the question clearly in a few short paragraphs.",
        "direct_settings": _DIRECT_SETTINGS,
        "skeleton_format": "list",
        "max_title_words": 6,
        "max_points": 6,
        "drop_similar_titles": True,
    }
)
"""Keyword arguments of `SotPrompts`; see `SotPrompts.small()`."""

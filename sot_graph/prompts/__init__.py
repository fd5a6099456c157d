"""What the models are told: `SotPrompts` in two profiles, and how its templates become messages."""

from sot_graph.prompts.profiles import SotPrompts, prompts_for

__all__ = ["SotPrompts", "prompts_for"]

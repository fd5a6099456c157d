"""How a run looks from outside: its traces, and what they may not show."""

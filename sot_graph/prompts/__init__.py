"""What the models are told: `SotPrompts` in two profiles, and how its templates become messages."""

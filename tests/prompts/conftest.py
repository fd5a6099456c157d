"""What all tests of prompts share: no network beyond this machine, no key from the environment."""

import pytest


@pytest.fixture(autouse=True)
def same_on_every_machine(loopback_only: None, no_settings_from_outside: None) -> None:
    """The tests mean the same everywhere."""

"""A real small model inside this process: no API key, no network, no second program.

Its default weights (SmolLM2-135M-Instruct, 135 million parameters) answer in good form and are often wrong in
fact: they are there to see, develop and test, not to be believed.
"""

from sot_graph.local.embedded_model import LocalServer, local_model
from sot_graph.local.model_weights import Weights, find_weights

__all__ = ["LocalServer", "Weights", "find_weights", "local_model"]

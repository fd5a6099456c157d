"""langchain-anthropic."""

from sot_graph import SotOptions, create_sot_graph
from tests.support.wires import AnthropicWire
from tests.support.wires.cases import ProviderCases, is_repeated_by_the_graph_alone


class TestAnthropic(ProviderCases):
    efforts = (
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 8192},
        {"thinking": {"type": "disabled"}},
        lambda body: (body.get("thinking") or {}).get("type"),
    )

    mark = "cache_control"

    def make_wire(self):
        return AnthropicWire()

    def make_model(self, url):
        from langchain_anthropic import ChatAnthropic

        return ChatAnthropic(model="claude-sonnet-4-5", base_url=url, api_key="any")

    async def test_its_own_retries_are_off(self, wire):
        await is_repeated_by_the_graph_alone(self.graph, wire)

    async def test_so_they_are_of_a_model_that_was_asked_before(self, wire):
        def graph(wire, **options):
            model = self.make_model(wire.url)
            model.invoke("Hello.")
            return create_sot_graph(model, options=SotOptions(min_points=2, **options))

        await is_repeated_by_the_graph_alone(graph, wire)

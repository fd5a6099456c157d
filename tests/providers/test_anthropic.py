"""langchain-anthropic."""

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

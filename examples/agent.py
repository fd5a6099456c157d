"""An agent with two tools whose long answers are written by Skeleton-of-Thought. Runs on a simulated endpoint.

python examples/agent.py

The middleware leaves the turns of the tools and the short answers as they are. Its router calls no model.
"""

from langchain.agents import create_agent

from sot_graph import SkeletonOfThoughtMiddleware, stream_answer
from sot_graph.testing import ChatRequest, Physics, Reply, SimulatedEndpoint, SkeletonResponder, ToolCall

POINTS = {
    "Choosing a sunny spot": "Six hours of sun a day, which Oslo has from April on.",
    "Preparing the clay": "Dig in sand and compost: the clay then lets the water through.",
    "Picking hardy crops": "Begin with kale, radishes and peas. At 12 degrees they sprout within two weeks.",
}
LONG = "What are good tips for starting a vegetable garden in Oslo?"
SHORT = "How warm is it in Oslo?"


def weather(city: str) -> str:
    """How the weather is in a city."""
    return f"12 degrees in {city}."


def soil(city: str) -> str:
    """What the soil is like in a city."""
    return f"Heavy clay in {city}."


def simulated_model(request: ChatRequest) -> Reply:
    """Looks things up first; then a short answer, or the skeleton that it is asked for, and its points."""
    if "one point" in request.last_user:
        return SkeletonResponder(titles=list(POINTS), text=lambda ask: POINTS[ask.title])(request)
    is_long = "vegetable" in request.text
    if not any(message["role"] == "tool" for message in request.messages):
        calls = [ToolCall("weather", {"city": "Oslo"}), ToolCall("soil", {"city": "Oslo"})]
        return Reply(tool_calls=calls if is_long else calls[:1])
    if is_long:
        return Reply("\n".join(f"{number}. {title}" for number, title in enumerate(POINTS, 1)))
    return Reply("It is 12 degrees.")


def main() -> None:
    """A question that wants a long answer, and one that doesn't."""
    with SimulatedEndpoint(simulated_model, physics=Physics.instant()) as endpoint:
        agent = create_agent(
            endpoint.chat_model(),
            [weather, soil],
            system_prompt="You are a gardener.",
            middleware=[SkeletonOfThoughtMiddleware()],
        )
        for question in (LONG, SHORT):
            endpoint.reset()
            print(f"> {question}\n")
            for text in stream_answer(agent, {"messages": [("user", question)]}):
                print(text, end="")
            points = sum("one point" in logged.request.last_user for logged in endpoint.requests)
            print(f"\n\n[{len(endpoint.requests) - points} calls of the agent's, {points} of points]\n")


if __name__ == "__main__":
    main()

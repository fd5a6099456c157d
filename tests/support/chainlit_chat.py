"""A Chainlit application as docs/clients.md shows it, and a chat with it over its own socket.

Chainlit wants other versions of some packages than ours, so this file runs in an environment of its own, as its
`python -m chainlit` and as its reader. The reader prints what a page would show: `[id, text]`, a line each.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from uuid import uuid4

QUESTION, BASE_URL = "SOT_TEST_QUESTION", "SOT_TEST_BASE_URL"


def serve_chat():
    """What Chainlit finds in this file."""
    import chainlit
    from langchain_openai import ChatOpenAI

    from sot_graph import create_sot_graph

    graph = create_sot_graph(ChatOpenAI(model="m", base_url=os.environ[BASE_URL], api_key="none"))

    @chainlit.on_message
    async def on_message(message):
        shown = chainlit.Message(content="")
        async for chunk, _ in graph.astream({"question": message.content}, stream_mode="messages"):
            await shown.stream_token(chunk.text)
        await shown.update()


async def read_chat(port):
    """Ask, and print what comes."""
    import socketio

    client, over, begun = socketio.AsyncClient(reconnection=False), asyncio.Event(), set()

    @client.on("stream_start")
    async def start(message):
        begun.add(message["id"])
        print(json.dumps([message["id"], message["output"]]), flush=True)

    @client.on("stream_token")
    async def token(piece):
        print(json.dumps([piece["id"], piece["token"]]), flush=True)

    @client.on("update_message")
    async def update(message):
        if message["id"] in begun:  # the question and the run around it are updated, too
            print(json.dumps({"id": message["id"], "final": message["output"]}), flush=True)
            over.set()

    session = {"clientType": "webapp", "sessionId": str(uuid4()), "threadId": "", "userEnv": "{}", "chatProfile": ""}
    where = f"http://127.0.0.1:{port}"
    await client.connect(where, socketio_path="/ws/socket.io", auth=session, transports=["websocket"])
    await client.emit("connection_successful")
    asked = {"id": str(uuid4()), "threadId": "", "name": "user", "type": "user_message"}
    asked |= {"output": os.environ[QUESTION], "createdAt": "2026-01-01T00:00:00Z"}
    await client.emit("client_message", {"message": asked, "fileReferences": []})
    await over.wait()
    await client.disconnect()


def wait_for(port, server):
    """Until it listens; a server that ends before that is an error."""
    while server.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit(server.stdout.read())


def main():
    """Serve, and read."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "chainlit", "run", __file__, "--headless", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            wait_for(port, server)
            asyncio.run(read_chat(port))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
elif "chainlit" in sys.modules:  # it has imported this file
    serve_chat()

"""An agent that has the tools of one MCP server, for a Python that has the Agents SDK.

    python agent.py OPTIONS WORDS

OPTIONS is JSON, the arguments of `MCPServerStdio`; `allowed_tools` in it makes a filter.
WORDS are what the user says. Prints what the agent says at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys

from agents import Agent, Runner  # type: ignore[attr-defined]
from agents.mcp import (  # type: ignore[import-not-found]
    MCPServerStdio,
    create_static_tool_filter,
)


async def run(options: str, words: str) -> None:
    arguments = json.loads(options)
    allowed = arguments.pop("allowed_tools", None)
    chosen = create_static_tool_filter(allowed_tool_names=allowed)
    async with MCPServerStdio(**arguments, tool_filter=chosen) as server:
        agent = Agent(name="Manager", instructions="Ask Codex.", mcp_servers=[server])
        result = await Runner.run(agent, words)
    print(result.final_output)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

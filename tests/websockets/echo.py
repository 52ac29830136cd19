"""An app that sends back what comes, by Python's websockets. Usage: echo.py ADDRESS PORT"""

import asyncio
import logging
import sys

from websockets.asyncio.server import serve


def seen(connection, request, response):
    response.headers["X-Seen"] = f"{request.path} {request.headers.get('X-Case')}"
    return response


def health(connection, request):
    # Anything that asks for no WebSocket is a check.
    return None if "Upgrade" in request.headers else connection.respond(200, "ok")


def protocol(connection, offered):
    return "chat.v1" if "chat.v1" in offered else None


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main(host, port):
    options = {"max_size": 32 << 20, "ping_interval": None}
    # Each case that breaks the protocol would be told at length.
    logging.disable()
    async with serve(
        echo, host, int(port), process_request=health, process_response=seen, select_subprotocol=protocol, **options
    ):
        print(f"listening {host}:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))

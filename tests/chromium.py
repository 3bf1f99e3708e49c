"""A real browser, told what to do over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

TIMEOUT_S = 60.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_GREETING = "DevTools listening on "
_OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    # Every such name is this machine, as after a rebinding of it.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    # What Chromium itself forbids such pages is not what is tested: other browsers do not.
    "--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests",
)


def find_program() -> str | None:
    """Chromium's program, if it is installed."""
    return next((found for program in PROGRAMS if (found := shutil.which(program))), None)


@contextmanager
def running_chromium(program: str) -> Iterator[Chromium]:
    """A browser of our own, without a window."""
    options = [*_OPTIONS, *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with (
        tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [program, *options, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": folder},
        ) as browser,
    ):
        try:
            url = _address(browser)
            assert browser.stderr is not None
            # What it says later is read, or it would wait for that.
            threading.Thread(target=browser.stderr.read, daemon=True).start()
            yield Chromium(url)
        finally:
            browser.terminate()
            browser.wait(TIMEOUT_S)


def _address(browser: subprocess.Popen[str]) -> str:
    said = []
    assert browser.stderr is not None
    for line in browser.stderr:
        if line.startswith(_GREETING):
            return line.removeprefix(_GREETING).strip()
        said.append(line)
    raise AssertionError("Chromium did not start:\n" + "".join(said))


@dataclass(frozen=True)
class Chromium:
    """A running browser."""

    url: str

    @asynccontextmanager
    async def page(self, url: str, body: str | None = None) -> AsyncIterator[Page]:
        """A page, loaded; with `body` its server is not asked for it, as if it had been before a rebinding."""
        host = self.url.split("/")[2]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://{host}/json/new?about:blank") as response:
                target = await response.json()
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as websocket:
                page = Page(websocket)
                async with asyncio.timeout(TIMEOUT_S):
                    await page.load(url, body)
                    yield page
            async with session.get(f"http://{host}/json/close/{target['id']}") as response:
                await response.read()

    async def frames(self) -> list[str]:
        """The texts that frames of other sites show now."""
        host = self.url.split("/")[2]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{host}/json/list") as response:
                frames = [target for target in await response.json() if target["type"] == "iframe"]
            texts = []
            for frame in frames:
                async with session.ws_connect(frame["webSocketDebuggerUrl"]) as websocket:
                    texts.append(await Page(websocket).run("async () => document.documentElement.innerText"))
        return texts


class Page:
    """One page; what is asked of it is asked one after the other."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._ids = itertools.count(1)

    async def load(self, url: str, body: str | None) -> None:
        """Go to `url` and wait until it is there."""
        await self._do("Page.enable")
        if body is not None:
            await self._do("Fetch.enable", patterns=[{"urlPattern": url}])
        await self._send("Page.navigate", url=url)
        if body is not None:
            paused = await self._event("Fetch.requestPaused")
            headers = [{"name": "Content-Type", "value": "text/html"}]
            text = base64.b64encode(body.encode()).decode()
            await self._send(
                "Fetch.fulfillRequest",
                requestId=paused["requestId"],
                responseCode=200,
                responseHeaders=headers,
                body=text,
            )
        await self._event("Page.loadEventFired")

    async def run(self, function: str, *arguments: object) -> Any:
        """What the asynchronous `function` of JavaScript returns."""
        expression = f"({function})({', '.join(map(json.dumps, arguments))})"
        answer = await self._do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _send(self, method: str, **parameters: Any) -> int:
        number = next(self._ids)
        await self._websocket.send_json({"id": number, "method": method, "params": parameters})
        return number

    async def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = await self._send(method, **parameters)
        while True:
            message = await self._websocket.receive_json()
            if message.get("id") == number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found

    async def _event(self, name: str) -> dict[str, Any]:
        while True:
            message = await self._websocket.receive_json()
            assert "error" not in message, message
            if message.get("method") == name:
                found: dict[str, Any] = message["params"]
                return found

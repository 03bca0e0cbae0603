"""A bad network before Redis: a TCP proxy that delays, cuts and silences connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class RedisProxy:
    """Forwards connections to a port of this machine, in a thread of its own: ``with RedisProxy(port) as proxy``.

    Args:
        target: the port that connections are forwarded to.

    Attributes:
        port: where it listens.
        delay: seconds by which it holds back all bytes, each way.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port, self.delay = target, 0, 0.0
        self._away = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> int:
        """Cut all connections, as a restarted router does; gives how many there were. New ones are taken at once."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def silence(self) -> int:
        """Forward nothing more on the present connections, and never close them; gives how many there are."""
        silenced = list(self._connections)
        for connection in silenced:
            connection.silent = True
        return len(silenced)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Cut all connections, and every new one too, as long as the block lasts."""
        self._away = True
        try:
            self.cut()
            yield
        finally:
            self._away = False

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        connection = _Connection(self, writer, far_writer)
        self._connections.add(connection)
        await asyncio.gather(connection.pump(reader, far_writer), connection.pump(far_reader, writer))
        self._connections.discard(connection)

    async def _cut(self) -> int:
        cut = list(self._connections)
        for connection in cut:
            connection.close()
        while any(connection in self._connections for connection in cut):
            await asyncio.sleep(0.001)
        return len(cut)


class _Connection:
    """Both ways of one connection.

    Args:
        proxy: whose delay holds.
        writers: to both ends.
    """

    def __init__(self, proxy: RedisProxy, *writers: asyncio.StreamWriter) -> None:
        self._proxy, self._writers = proxy, writers
        self.silent = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one way until either end closes."""
        try:
            while data := await reader.read(_CHUNK):
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # an end is gone
        finally:
            self.close()

    def close(self) -> None:
        """Reset both ends."""
        for writer in self._writers:
            writer.transport.abort()

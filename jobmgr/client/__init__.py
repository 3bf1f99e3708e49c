"""The REST API with the manager's verbs: `async with Client() as client: await client.submit(["make"])`."""

from jobmgr.client.client import Client
from jobmgr.transports.directory import Window as LogWindow

__all__ = ["Client", "LogWindow"]

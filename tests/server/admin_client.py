"""What tests do with `/admin` over HTTP."""

import hashlib
import json
from typing import Any

import httpx

KEY = "an-administrator"
"""Of the only one who may use a server that has `KEYS`."""
KEYS = json.dumps(
    [
        {
            "name": "admin",
            "role": "admin",
            "hash": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}",
        }
    ]
)
"""The setting `api_keys` of a server that has one administrator, and nobody else."""
HEADERS = {"authorization": f"Bearer {KEY}"}
"""Of every request to it."""


class AdminClient:
    """Calls of an administrator on one server; the client sends `HEADERS`."""

    def __init__(self, client: httpx.Client) -> None:
        self.http = client

    def models(self) -> dict[str, Any]:
        """Every checkpoint by its name."""
        response = self.http.get("/admin/models")
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        return {model["name"]: model for model in response.json()["models"]}

    def statuses(self) -> dict[str, str]:
        return {name: model["status"] for name, model in self.models().items()}

    def load(self, name: str) -> httpx.Response:
        return self.http.put(f"/admin/models/{name}")

    def unload(self, name: str) -> httpx.Response:
        return self.http.delete(f"/admin/models/{name}")

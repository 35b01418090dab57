"""What tests do with `/admin` over HTTP."""

from typing import Any

import httpx

HEADERS = {"authorization": "Bearer an-administrator"}
"""Of every call."""


class AdminClient:
    """Calls of an administrator on one server."""

    def __init__(self, client: httpx.Client) -> None:
        self.http = client

    def models(self) -> dict[str, Any]:
        """Every checkpoint by its name."""
        response = self.http.get("/admin/models", headers=HEADERS)
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        return {model["name"]: model for model in response.json()["models"]}

    def statuses(self) -> dict[str, str]:
        return {name: model["status"] for name, model in self.models().items()}

    def load(self, name: str) -> httpx.Response:
        return self.http.put(f"/admin/models/{name}", headers=HEADERS)

    def unload(self, name: str) -> httpx.Response:
        return self.http.delete(f"/admin/models/{name}", headers=HEADERS)

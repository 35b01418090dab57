"""The ASGI app: `uvicorn server.app:app` in a clone, else `uvicorn causalrn.server.app:app`."""

from causalrn.server.application import create_app

app = create_app()

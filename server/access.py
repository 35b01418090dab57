"""Who may do what."""


async def require_admin() -> None:
    """Let only those through who may administrate the server."""

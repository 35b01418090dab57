import pytest

from causalrn.server.auth.access import Access, Account
from causalrn.server.auth.api_keys import ApiKey, ApiKeys
from causalrn.server.auth.key_format import Role, digest_of, new_key
from causalrn.server.auth.rate_limits import KeyUsage
from causalrn.server.errors import UnauthorizedError


def test_whose_sessions_a_request_makes_and_sees() -> None:
    def account(role: Role) -> Account:
        key = ApiKey(name="alice", role=role, max_sessions=3)
        return Account(KeyUsage(key))

    user, admin, anybody = account("user"), account("admin"), Account(None)
    assert (user.owner, user.sees, user.max_sessions) == ("alice", "alice", 3)
    assert (admin.owner, admin.sees, admin.max_sessions) == ("alice", None, 3)
    assert (anybody.owner, anybody.sees, anybody.max_sessions) == ("", None, None)


def test_one_known_key_is_needed_if_the_server_has_any() -> None:
    keys = ApiKeys()
    secret, _ = new_key()
    keys.add(ApiKey(name="alice"), digest_of(secret))
    access = Access(keys)
    assert access.identify([f"Bearer {secret}"]).owner == "alice"
    with pytest.raises(UnauthorizedError, match="is not known"):
        access.identify([f"Bearer {secret}x"])
    for credentials in ([], [f"Basic {secret}"], [f"Bearer {secret}"] * 2):
        with pytest.raises(UnauthorizedError, match="an API key is needed"):
            access.identify(credentials)
    assert Access(ApiKeys()).identify([]).key is None

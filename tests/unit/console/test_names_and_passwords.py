"""Names of accounts that cannot be mistaken, and passwords that take their time."""

import pytest

from console import passwords
from reviews.account import require_account_name
from reviews.errors import WrongUse


@pytest.mark.parametrize(
    "name", ["", " ada", "ada\n", "a" * 129, "\u202eada", "token x", "The command line, x"]
)
def test_a_name_that_could_be_mistaken_is_no_account(name: str) -> None:
    with pytest.raises(WrongUse):
        require_account_name(name)


def test_names_of_people_are_names_of_accounts() -> None:
    for name in ("ada", "Ada Lovelace", "ada@example.org", "Ольга", "O'Brien <x>", "tokenise"):
        assert require_account_name(name) == name


def test_a_password_of_the_wrong_length_is_refused() -> None:
    for password in ("", "a" * 9, "a" * 513):
        with pytest.raises(WrongUse, match="10 to 512"):
            passwords.hash_password(password)


def test_only_the_right_password_is_right() -> None:
    stored = passwords.hash_password("four words are enough")
    assert stored.startswith("$argon2id$")
    assert passwords.is_right("four words are enough", stored)
    assert not passwords.is_right("four words are enougH", stored)
    assert not passwords.is_right("four words are enough", "no hash")


def test_a_check_against_nobody_calculates_a_hash_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    from console import passwords

    class Hasher:
        def hash(self, password: str) -> str:
            return "hash of " + password

        def verify(self, stored: str, _: str) -> bool:
            checked.append(stored)
            return True

    passwords._nobodys.cache_clear()
    monkeypatch.setattr(passwords, "_HASHER", Hasher())
    assert not passwords.is_right("x", None)
    assert checked == ["hash of the password of nobody"]
    passwords._nobodys.cache_clear()

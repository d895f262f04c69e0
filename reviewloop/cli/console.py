"""``reviewloop console``: the pages for browsers, and the accounts of those who use them."""

import getpass
import threading
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured, read_password, refuse_options
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.cli.running import on_signals
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import Settings, load_settings
from reviewloop.terminal import say
from reviewloop.wiring.console import local_link, open_console
from reviews.account import COMMAND_LINE, Role, User
from reviews.errors import WrongUse
from reviews.json_output import to_json
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import LinkPurpose, SessionStore, TokenStore
from storage.accounts.users import UserStore
from storage.database import Database

app = typer.Typer(help="The console: pages for browsers over the same tables. Without a command: serve it.")
users_app = typer.Typer(no_args_is_help=True, help="Who may use the console, and as what.")
tokens_app = typer.Typer(no_args_is_help=True, help="Tokens of programs that use the console's API.")
app.add_typer(users_app, name="users")
app.add_typer(tokens_app, name="tokens")

_NO_EXTRA = (
    "The console needs packages that are not installed: install ReviewLoop with its extra 'console', for "
    "example pip install 'reviewloop[console]'."
)
NameArgument = Annotated[str, typer.Argument(help="The name of the account, whatever its case.")]
RoleOption = Annotated[
    Role, typer.Option(help="What it may do; each role may all that the earlier ones may.")
]
PasswordOption = Annotated[
    Path | None,
    typer.Option("--password-file", help="File with the password; unset, a link lets the user choose one."),
]
DaysOption = Annotated[int, typer.Option(min=1, max=366, help="The token ends after so many days.")]


@app.callback(invoke_without_command=True)
def console(
    context: typer.Context,
    *,
    address: Annotated[str | None, typer.Option(help="Listen there; unset, console.address.")] = None,
    port: Annotated[int | None, typer.Option(help="Listen there; unset, console.port.")] = None,
) -> None:
    """Serve the pages and the API until Ctrl-C."""
    if context.invoked_subcommand is not None:
        refuse_options(context, "serving the console")
        return
    configure_logging()
    settings = load_settings({"console": {"address": address, "port": port}})
    try:
        from console.serving import serve
    except ModuleNotFoundError as err:
        raise WrongUse(_NO_EXTRA) from err
    stopping = threading.Event()
    with on_signals(stopping), open_console(settings) as parts:
        serve(parts, lambda: _say_address(settings.console.url, local_link(parts.database)), stopping)


@app.command()
def openapi() -> None:
    """The description of the API as JSON, for programs that make clients of it."""
    try:
        from console.app import describe_api
    except ModuleNotFoundError as err:
        raise WrongUse(_NO_EXTRA) from err
    say(to_json(describe_api(), indent=2))


@users_app.command("add")
def add_user(
    name: NameArgument, *, role: RoleOption = Role.ANNOTATOR, password: PasswordOption = None
) -> None:
    """Make an account; prints the link by which its user chooses a password."""
    with configured() as (settings, database):
        hashed = _hash_of(password)
        with _decision(database, "user.add", name):
            user = UserStore(database).add(name, role, COMMAND_LINE, hashed)
        say(f"{user.name} is {user.role}.", err=True)
        if hashed is None:
            _say_password_link(settings, database, user)


@users_app.command("list")
def list_users(*, form: FormatOption = None, raw: RawOption = False) -> None:
    """All accounts."""
    with configured() as (_, database):
        rows = [
            {
                "name": user.name,
                "role": str(user.role),
                "state": "disabled" if user.is_disabled else "enabled",
                "logs_in_by": "password" if user.has_password else "link or single sign-on",
                "created_at": user.created_at,
                "created_by": user.created_by,
            }
            for user in UserStore(database).all()
        ]
    columns = ("name", "role", "state", "logs_in_by", "created_at", "created_by")
    print_rows(rows, form, table_columns=columns, raw=raw)


@users_app.command("role")
def set_role(name: NameArgument, role: Annotated[Role, typer.Argument(help="What it may do.")]) -> None:
    """Change what a user may do, from the next request on."""
    with configured() as (_, database), _decision(database, f"user.role.{role}", name):
        user = UserStore(database).set_role(name, role)
    say(f"{user.name} is {user.role}.")


@users_app.command("disable")
def disable_user(name: NameArgument) -> None:
    """End an account with its sessions, links and tokens; labels and decisions stay."""
    with configured() as (_, database), _decision(database, "user.disable", name):
        user = UserStore(database).disable(name)
    say(f"{user.name} is disabled.")


@users_app.command("enable")
def enable_user(name: NameArgument) -> None:
    """Let a disabled user in again."""
    with configured() as (_, database), _decision(database, "user.enable", name):
        user = UserStore(database).enable(name)
    say(f"{user.name} may log in again.")


@users_app.command("reset")
def reset_user(name: NameArgument, *, password: PasswordOption = None) -> None:
    """End a user's sessions and take the password away; prints the link for a new one."""
    with configured() as (settings, database):
        hashed = _hash_of(password)
        with _decision(database, "user.reset", name):
            user = UserStore(database).set_password(name, hashed)
        if hashed is None:
            _say_password_link(settings, database, user)
            return
    say(f"{user.name} has the new password.")


@tokens_app.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="What it is for; no two tokens have one name.")],
    user: Annotated[str, typer.Argument(help="The user who answers for it: it ends with the account.")],
    *,
    role: RoleOption = Role.VIEWER,
    days: DaysOption = 90,
) -> None:
    """Make a token for the API, and print it this once."""
    with configured() as (_, database):
        owner = UserStore(database).get(user)
        with _decision(database, "token.add", name):
            say(TokenStore(database).add(name, owner, role, timedelta(days=days)))


@tokens_app.command("list")
def list_tokens(*, form: FormatOption = None, raw: RawOption = False) -> None:
    """All tokens, never their secrets."""
    with configured() as (_, database):
        rows = [
            {
                "name": token.name,
                "role": str(token.role),
                "user": token.user,
                "expires_at": token.expires_at,
                "revoked_at": token.revoked_at,
                "last_used_at": token.last_used_at,
                "created_at": token.created_at,
            }
            for token in TokenStore(database).all()
        ]
    columns = ("name", "role", "user", "expires_at", "revoked_at", "last_used_at", "created_at")
    print_rows(rows, form, table_columns=columns, raw=raw)


@tokens_app.command("revoke")
def revoke_token(name: Annotated[str, typer.Argument(help="The token's name.")]) -> None:
    """Refuse a token from now on."""
    with configured() as (_, database), _decision(database, "token.revoke", name):
        TokenStore(database).revoke(name)
    say(f"The token {name} is revoked.")


def _decision(database: Database, action: str, subject: str) -> AbstractContextManager[None]:
    """In the same log as what is decided in the console."""
    return AuditLog(database).decision(f"{COMMAND_LINE}, {getpass.getuser()}", action, subject)


def _say_address(url: str, link: str | None) -> None:
    if link is None:
        say(f"The console is at {url}")
    else:
        say(f"The console is at {url}\nThis link logs you in, once, within an hour: {url}{link}")


def _say_password_link(settings: Settings, database: Database, user: User) -> None:
    """The address alone on standard output, so that a script can hand it on."""
    lifetime = timedelta(hours=settings.console.link_hours)
    secret = SessionStore(database).make_link(user, LinkPurpose.PASSWORD, lifetime)
    host = settings.console.hosts[0] if settings.console.hosts else None
    base = f"https://{host}" if host else settings.console.url
    say(f"By this link {user.name} chooses a password; it works once, within {lifetime}:", err=True)
    say(f"{base}/password/{secret}")


def _hash_of(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        from console.passwords import hash_password
    except ModuleNotFoundError as err:
        raise WrongUse(_NO_EXTRA) from err
    return hash_password(read_password(file))

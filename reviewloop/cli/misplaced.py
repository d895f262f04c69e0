"""Options that stand before a subcommand that does not look at them."""

import typer

from reviews.errors import WrongUse


def refuse_options(context: typer.Context, owner: str) -> None:
    """Refuse options of a group that were given although one of its subcommands is what runs.

    Args:
        context: The group's.
        owner: What its options belong to.

    Raises:
        WrongUse: If there is such an option.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise WrongUse(
                f"{parameter.opts[0]} belongs to {owner}: give it behind "
                f"'{context.info_name} {context.invoked_subcommand}' if that has such an option."
            )

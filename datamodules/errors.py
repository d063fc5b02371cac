"""The one exception that a user's wrong input may end in."""


class UserError(Exception):
    """Wrong input or a missing resource, told in one line: what is wrong, in which file, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """

"""The one exception for mistakes a user can mend."""


class UserError(Exception):
    """Bad input: the message says what, where, what was expected and how to mend it.

    The command line prints the message alone and exits with status 2; library callers catch it like
    any exception. Anything else that escapes is a bug of ours and keeps its traceback.
    """

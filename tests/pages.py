"""The Python on the pages of README and docs."""

import re

from tests.conftest import REPOSITORY


def blocks(page: str) -> list[str]:
    """The Python of a page, block by block."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)

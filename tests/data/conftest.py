import pytest

from tests import numbered_data


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory):
    """The data set of `tests.numbered_data`."""
    return numbered_data.build(tmp_path_factory.mktemp("data"))

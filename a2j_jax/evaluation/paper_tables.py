"""What each table of the paper is made of: rows, each a config, and data sets it can be run on."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from a2j_jax.config import Config
from a2j_jax.config_files import load_config
from a2j_jax.errors import UserError, did_you_mean

EMBEDDED = ("synthetic_hand", "synthetic_body")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
      label: what the paper calls it.
      config: name of the config file that makes it of a base; None: the base itself.
      differs: the key of a config, and its value, that make it this row and not A2J.
      is_a2j: whether it is the A2J of the paper's other tables, whose published numbers then stand beside it.
    """

    label: str
    config: str | None = None
    differs: tuple[str, Any] | None = None
    is_a2j: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return "a2j" if self.config is None else self.config.rpartition("/")[2]


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
      name: as it is asked for, "table7".
      title: what it shows.
      rows: in the paper's order.
      data: tracks it can be run on, the paper's first.
      pdj: whether PDJ is measured whatever the track's own protocol is, where the skeleton has a torso.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    data: tuple[str, ...]
    pdj: bool = False


_A2J = Row("A2J", is_a2j=True)

TABLES: dict[str, PaperTable] = {
    table.name: table
    for table in (
        PaperTable("table2", "HANDS 2017, frame-based", (_A2J,), ("hands2017",)),
        PaperTable("table3", "NYU", (_A2J,), ("nyu",)),
        PaperTable("table4", "ICVL", (_A2J,), ("icvl",)),
        PaperTable("table5", "ITOP, front and top view", (_A2J,), ("itop_front", "itop_top")),
        PaperTable("table6", "K2HPD", (_A2J,), ("k2hpd",)),
        PaperTable(
            "table7",
            "what the parts of A2J are worth",
            (
                Row(
                    "without the anchor proposal branch",
                    "table7/no_proposals",
                    ("model.proposals", False),
                ),
                Row(
                    "without the surrounding loss",
                    "table7/no_surrounding_loss",
                    ("loss.surrounding", False),
                ),
                Row(
                    "offset and depth in one branch",
                    "table7/one_branch",
                    ("model.one_branch", True),
                ),
                _A2J,
            ),
            ("nyu", "itop_front", *EMBEDDED),
        ),
        PaperTable(
            "table8",
            "paradigms on the same trunk",
            (
                Row(
                    "global regression",
                    "table8/global_regression",
                    ("model.paradigm", "regression"),
                ),
                Row("FCN with heat maps", "table8/heat_maps", ("model.paradigm", "heat_maps")),
                _A2J,
            ),
            ("k2hpd", "nyu", "itop_front", *EMBEDDED),
            pdj=True,
        ),
        PaperTable(
            "table9",
            "pre-training",
            (
                Row("from scratch", "table9/from_scratch", ("model.init_from", None)),
                Row("from ImageNet's weights", "table9/imagenet", is_a2j=True),
            ),
            ("nyu", "itop_front", *EMBEDDED),
        ),
        PaperTable(
            "table10",
            "backbones",
            (
                Row("ResNet-18", "table10/resnet18", ("model.backbone", "resnet18")),
                Row("ResNet-34", "table10/resnet34", ("model.backbone", "resnet34")),
                Row("ResNet-50", "table10/resnet50", is_a2j=True),
            ),
            ("nyu", "itop_front", *EMBEDDED),
        ),
    )
}


def row_config(row: Row, base: Config) -> Config:
    """What a row of a table trains, on a base."""
    return base if row.config is None else load_config(row.config, base)


def rows_of(config: Config, *, trained_here: bool) -> dict[str, str]:
    """Which row of Tables 7 to 10 a network is: table → row; A2J is one of each, another network of one at most.

    Args:
      config: of the network.
      trained_here: false: weights of an unknown start, which are no row of Table 9.
    """
    others = {
        table.name: row.name
        for table in TABLES.values()
        for row in table.rows
        if row.differs is not None
        and attrgetter(row.differs[0])(config) == row.differs[1]
        and (trained_here or table.name != "table9")
    }
    if others:
        return others if len(others) == 1 else {}
    return {
        table.name: row.name
        for table in TABLES.values()
        for row in table.rows
        if row.is_a2j and len(table.rows) > 1
    }


def get_table(name: str, data: str | None) -> tuple[PaperTable, str]:
    """A table by name ("table7" or "7"), and the track to run it on: the paper's, unless given.

    Raises:
      UserError: there is no such table, or it cannot be run on that track.
    """
    full = name if name.startswith("table") else f"table{name}"
    if full not in TABLES:
        meant = did_you_mean(full, TABLES)
        raise UserError(f"no table {name!r}{meant} (there are: {', '.join(TABLES)})")
    table = TABLES[full]
    data = data or table.data[0]
    if data not in table.data:
        meant = did_you_mean(data, table.data)
        raise UserError(f"{full} is run on one of {', '.join(table.data)}, not on {data!r}{meant}")
    return table, data

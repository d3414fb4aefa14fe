"""A stranger's own data: a catalogue entry and a CSV file of staff, with a canary in every free value."""

from __future__ import annotations

from pathlib import Path

from tests.support.command_line import CANARY

DISTRICTS = ("north", "south")
HEADER = "staff_id,district,pay,hours,illness,active"
COLUMNS = "staff:district,pay,active"
CATALOGUE = """
title = "在岗人员"
department_id = "dept-labour"
form = "table"
category = "人力资源"
sharing = "conditional"
opening = "none"
frequency = "monthly"
source = "test"
personal = true

[spec]
dataset_id = "staff"
entity_set = "resident"
entity_column = "staff_id"
key_kind = "opaque"
population_cap = 10000
unique = true
rows_per_entity = 1
max_rejected_permille = 20

[[spec.columns]]
name = "staff_id"
title = "编号"
type = "text"
grade = 3

[[spec.columns]]
name = "district"
title = "区"
type = "text"
domain = ["north", "south"]

[[spec.columns]]
name = "pay"
title = "工资"
type = "decimal"
scale = 2
bounds = [0, 10000000]

[[spec.columns]]
name = "hours"
title = "工时，未声明上下界"
type = "integer"

[[spec.columns]]
name = "illness"
title = "病史"
type = "text"
nullable = true
withheld = "《中华人民共和国个人信息保护法》第二十八条"

[[spec.columns]]
name = "active"
title = "在岗"
type = "boolean"
"""
UNBOUNDED_CATALOGUE = CATALOGUE.replace('"staff"', '"visits"').replace("unique = true\nrows_per_entity = 1\n", "")


def staff_row(number: int, **changes: str) -> str:
    """One line; `number` 0 is inactive, as is every third."""
    fields = {
        "staff_id": f"{CANARY}-{number}",
        "district": DISTRICTS[number % 2],
        "pay": f"{3000 + number}.50",
        "hours": str(7731000 + number),
        "illness": f"{CANARY} illness {number}",
        "active": "true" if number % 3 else "false",
    }
    return ",".join((fields | changes).values()) + "\n"


def staff_csv(rows: int = 300) -> str:
    """A well-formed file."""
    return HEADER + "\n" + "".join(staff_row(number) for number in range(rows))


def write(path: Path, text: str | bytes) -> str:
    """Write a file and name it as a command line does."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)

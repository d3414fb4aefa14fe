"""The organisations of the pilot city: the bureau, its departments, two operators and two businesses."""

from __future__ import annotations

from typing import Final

import numpy as np

from sandbox.domain.party import Party, Role
from sandbox.pilot.codes import CITY, MAX_SERIAL, credit_codes

_STATE_BODY: Final = 11
_COMPANY: Final = 91

_PARTIES: Final = (
    ("bureau", "云溪市数据局", Role.BUREAU),
    ("dept-housing", "云溪市住房和城乡建设局", Role.DEPARTMENT),
    ("dept-human-resources", "云溪市人力资源和社会保障局", Role.DEPARTMENT),
    ("dept-market-regulation", "云溪市市场监督管理局", Role.DEPARTMENT),
    ("dept-permits", "云溪市行政审批服务局", Role.DEPARTMENT),
    ("dept-public-security", "云溪市公安局", Role.DEPARTMENT),
    ("dept-statistics", "云溪市统计局", Role.DEPARTMENT),
    ("dept-utilities", "云溪市公用事业管理局", Role.DEPARTMENT),
    ("op-city-data", "云溪城市数据运营有限公司", Role.OPERATOR),
    ("op-credit", "云溪征信服务有限公司", Role.OPERATOR),
    ("biz-bank", "云溪农村商业银行股份有限公司", Role.BUSINESS),
    ("biz-insurer", "青禾财产保险股份有限公司", Role.BUSINESS),
)


def city_parties() -> tuple[Party, ...]:
    """The example parties, the bureau first; none of them has the credit code of an enterprise in the city's tables."""
    return tuple(
        Party(party_id, name, role, _code(number, role))
        for number, (party_id, name, role) in enumerate(_PARTIES, start=1)
    )


def _code(number: int, role: Role) -> str:
    """A code of the city itself; enterprises have those of its districts."""
    authority = _STATE_BODY if role in (Role.BUREAU, Role.DEPARTMENT) else _COMPANY
    (code,) = credit_codes(
        authority, np.array([int(f"{CITY}00")]), np.array([number * 7_919_101 % MAX_SERIAL])
    ).tolist()
    return str(code)

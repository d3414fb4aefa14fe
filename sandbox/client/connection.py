"""How a command line reaches a product: address, key, pinned keys, and what may come from standard input."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.errors import Failed
from sandbox.client.transport import SECONDS, Door
from sandbox.client.verification import VerificationClient

BAR = 30
MODES = [mode.value for mode in VerificationMode if mode is not VerificationMode.SCORE]


@dataclass
class Lines:
    """Standard input, line by line: what is named `-` on the command line is read from there, in the order key,
    subject, claim."""

    stream: TextIO

    def or_next(self, given: str) -> str:
        """What was given, or the next line where it was `-`; ValueError at the end of the input."""
        if given != "-":
            return given
        line = self.stream.readline()
        if not line:
            raise ValueError("standard input has no more lines")
        return line.strip()


def add_run(parser: argparse.ArgumentParser, run: Callable[..., object], *options: Callable[..., None]) -> None:
    """What the command runs, and the options that it shares with others."""
    parser.set_defaults(run=run)
    for option in options:
        option(parser)
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")


def add_product(parser: argparse.ArgumentParser) -> None:
    """The product."""
    parser.add_argument("product", help="产品编号 / product id")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Address, key, and what is expected of receipts."""
    parser.add_argument(
        "--url", default=os.environ.get("YUNEI_URL"), help="平台地址（YUNEI_URL）/ the platform's address"
    )
    parser.add_argument(
        "--key-file",
        default=os.environ.get("YUNEI_KEY_FILE"),
        help="API 密钥文件，- 表示标准输入首行（或环境变量 YUNEI_KEY）/ file with the API key; - reads standard input",
    )
    parser.add_argument("--ca", type=Path, help="CA 证书 / certificates in place of the system's")
    parser.add_argument("--proxy", help="代理 / proxy")
    parser.add_argument("--timeout", type=float, default=SECONDS, help="每次尝试的秒数 / seconds for each attempt")
    parser.add_argument("--caller", help="本企业的主体编号，须见于回执 / own party id, to be found in receipts")
    parser.add_argument("--measurement", help="预期的代码度量 / digest of the enclave's code, to be found in receipts")
    add_pin(parser)


def add_pin(parser: argparse.ArgumentParser) -> None:
    """The enclave's keys."""
    parser.add_argument(
        "--trusted",
        action="append",
        help="预先取得的域内公钥 algorithm:hex 或其文件（YUNEI_TRUSTED）/ the enclave's pinned key, or a file of keys",
    )


def add_privacy(parser: argparse.ArgumentParser) -> None:
    """How privately to ask."""
    parser.add_argument("--mode", choices=MODES, help="缺省为可用的最私密模式 / the most private one unless told")
    parser.add_argument("--weakest", choices=MODES, help="不使用更弱的模式 / never use a weaker mode")
    parser.add_argument("--k-min", type=int, default=1, help="P3 分桶的最少对象数 / the fewest subjects of a P3 bucket")
    parser.add_argument("--no-cache", action="store_true", help="不缓存提示数据 / keep no hint on disk")
    parser.add_argument("--cache", type=Path, help="缓存目录 / folder of hints")


def add_keeping(parser: argparse.ArgumentParser) -> None:
    """Where the receipt goes."""
    parser.add_argument("--receipt", type=Path, help="保存回执（0600）/ save the receipt")
    parser.add_argument("--bare", action="store_true", help="回执不含问答 / leave question and answer out of it")


def client_of(given: argparse.Namespace, lines: Lines) -> VerificationClient:
    """The client that these options describe; ValueError for what is missing."""
    if not given.url:
        raise ValueError("the platform's address is missing: --url or YUNEI_URL")
    door = Door(given.url, _key(given, lines), given.ca, given.proxy, given.timeout)
    return VerificationClient(
        door.url,
        door.key,
        given.product,
        trusted=pinned(given),
        cache=getattr(given, "cache", None),
        keep_hints=not getattr(given, "no_cache", False),
        weakest=VerificationMode(weakest) if (weakest := getattr(given, "weakest", None)) else None,
        k_min=getattr(given, "k_min", 1),
        caller=given.caller,
        measurement=given.measurement,
        progress=None if given.json or not sys.stderr.isatty() else show_progress,
        door=door,
    )


def _key(given: argparse.Namespace, lines: Lines) -> str:
    if given.key_file == "-":
        return lines.or_next("-")
    if given.key_file:
        return text_of(Path(given.key_file)).strip()
    key = os.environ.get("YUNEI_KEY")
    if not key:
        raise ValueError("the API key is missing: --key-file or YUNEI_KEY")
    return key


def pinned(given: argparse.Namespace) -> list[str]:
    """Keys from the command line, from files of one key a line, or from the environment."""
    told = given.trusted or list(filter(None, [os.environ.get("YUNEI_TRUSTED")]))
    if not told:
        raise ValueError("the enclave's key is missing: --trusted or YUNEI_TRUSTED")
    return [key for item in told for key in ([item] if ":" in item else text_of(Path(item)).split())]


def text_of(path: Path) -> str:
    """The text of a file; Failed(`file.unreadable`), or Failed(`file.encoding`) where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failed("file.encoding") from None
    except OSError:
        raise Failed("file.unreadable") from None


def show_progress(done: int, total: int) -> None:
    """A bar on standard error while a hint is downloaded."""
    filled = BAR * done // total
    bar = "█" * filled + "·" * (BAR - filled)
    end = "\n" if done >= total else ""
    print(f"\r提示数据 / hint {bar} {done / 1e6:.1f}/{total / 1e6:.1f} MB", end=end, file=sys.stderr)  # noqa: T201
    sys.stderr.flush()

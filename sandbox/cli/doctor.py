"""`enclave doctor` for people: every escape attempt by layer, and for what is not blocked the cause and the fix."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {"BLOCKED": "green", "ALLOWED": "bold red", "MISSING": "bold yellow"}
LAYERS = {
    "jail": "隔离 / jail",
    "namespaces": "命名空间 / namespaces",
    "root": "根目录 / root",
    "limits": "资源上限 / limits",
    "privileges": "权限 / privileges",
    "landlock": "Landlock",
    "seccomp": "系统调用 / seccomp",
    "network": "网络 / network",
    "engine": "引擎 / engine",
    "output": "输出 / output",
}
# By the name of a row, else by its layer: the cause, then what to change.
ADVICE = {
    "user.max_user_namespaces": (
        "用户命名空间已关闭：sysctl -w user.max_user_namespaces=15000",
        "user namespaces are off: sysctl -w user.max_user_namespaces=15000",
    ),
    "kernel.unprivileged_userns_clone": (
        "普通用户不能建用户命名空间：sysctl -w kernel.unprivileged_userns_clone=1",
        "user namespaces are root's alone: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    "kernel.apparmor_restrict_unprivileged_userns": (
        "AppArmor 限制用户命名空间：为本程序加一条允许 userns 的配置，或 sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0",
        "AppArmor restricts user namespaces: give this program a profile that allows userns, or sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    "user-namespaces": (
        "内核或容器拒绝建命名空间：容器的 seccomp 配置须放行 unshare、mount、pivot_root",
        "the kernel or the container refuses namespaces: its seccomp profile must allow unshare, mount, pivot_root",
    ),
    "private-root": (
        "不能挂载自己的根目录或 /proc：容器须用未遮盖的 /proc（docker: --security-opt systempaths=unconfined）",
        "no root or /proc of its own can be mounted: a container needs an unmasked /proc "
        "(docker: --security-opt systempaths=unconfined)",
    ),
    "landlock": (
        "内核没有 Landlock：用 5.13 以上、CONFIG_SECURITY_LANDLOCK=y 的内核，并在启动参数 lsm= 中列出 landlock",
        "Landlock is not in this kernel: run 5.13 or later with CONFIG_SECURITY_LANDLOCK=y, and list landlock in lsm=",
    ),
    "landlock-floor": ("Landlock 版本过低：升级内核", "Landlock is too old: use a later kernel"),
    "processor": (
        "没有为此处理器审过的系统调用表：用 x86-64 主机",
        "no reviewed list of system calls for this processor: use an x86-64 host",
    ),
    "seccomp": (
        "内核没有 seccomp 过滤：CONFIG_SECCOMP_FILTER=y，4.14 以上",
        "the kernel has no seccomp filter: CONFIG_SECCOMP_FILTER=y, 4.14 or later",
    ),
    "jail": (
        "隔离建不起来：看上面的代码，检查内存与进程数是否够用",
        "the jail did not come up: see the code above, and whether memory and processes suffice",
    ),
}
OPEN_ADVICE = (
    "本层没有拦住这次尝试。不要在此主机上处理数据；核对内核版本与本软件版本，并报告给开发者",
    "this layer did not stop the attempt. Keep data off this host; compare the kernel and this release, and report it",
)


def print_examination(console: Console, report: dict[str, Any]) -> None:
    """A table of all rows, and below it what to change."""
    console.print(Text("隔离自检 / jail self-test", style="bold"))
    table = Table(header_style="bold")
    for column in ("层 / layer", "结果 / outcome", "尝试 / probe", "依据 / detail"):
        table.add_column(column)
    before = ""
    for row in report["probes"]:
        layer = LAYERS.get(row["layer"], row["layer"])
        outcome = Text(row["outcome"], style=STYLES.get(row["outcome"], ""))
        table.add_row("" if layer == before else layer, outcome, row["name"], row["detail"])
        before = layer
    console.print(table)
    console.print(f"Linux {report['kernel']} · Landlock ABI {report['landlock_abi']}")
    for row in report["probes"]:
        if row["outcome"] != "BLOCKED":
            _print_advice(console, row)
    console.print(_verdict(report))


def _print_advice(console: Console, row: dict[str, Any]) -> None:
    zh, en = ADVICE.get(row["name"], OPEN_ADVICE)
    console.print(Text(f"{row['outcome']} {row['layer']}/{row['name']}: {row['detail']}", style=STYLES[row["outcome"]]))
    console.print(f"  {zh}\n  {en}")


def _verdict(report: dict[str, Any]) -> Text:
    if report["ok"]:
        return Text(f"{len(report['probes'])} 次尝试全部被拦住 / all attempts blocked", style="green")
    return Text("不能运行作业 / no job runs on this host", style="bold red")

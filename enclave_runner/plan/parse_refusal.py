"""What a row or a group may not be asked, each with the rule that tells what to write instead."""

from __future__ import annotations

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.parse_text import position

BY_NODE: dict[type[exp.Expr], str] = {
    **dict.fromkeys((exp.Window, exp.Lag, exp.Lead, exp.RowNumber, exp.Rank, exp.DenseRank), "sql.window"),
    **dict.fromkeys((exp.Subquery, exp.Select, exp.Exists, exp.Any, exp.All, exp.Union), "sql.scalar-subquery"),
    **dict.fromkeys(
        (exp.First, exp.Last, exp.AnyValue, exp.IgnoreNulls, exp.Mode, exp.ArgMax, exp.ArgMin, exp.GroupConcat,
         exp.ArrayAgg, exp.Explode, exp.LogicalAnd, exp.LogicalOr, exp.BitwiseXorAgg, exp.BitwiseAndAgg,
         exp.BitwiseOrAgg, exp.NthValue, exp.FirstValue, exp.LastValue),
        "sql.raw-value",
    ),
    **dict.fromkeys(
        (exp.Rand, exp.CurrentDate, exp.CurrentTimestamp, exp.CurrentTime, exp.CurrentVersion, exp.CurrentUser,
         exp.CurrentSchema, exp.CurrentCatalog, exp.SessionUser, exp.Localtime, exp.Localtimestamp, exp.Uuid),
        "sql.volatile",
    ),
    **dict.fromkeys(
        (exp.Like, exp.ILike, exp.Glob, exp.RegexpLike, exp.RegexpILike, exp.RegexpFullMatch, exp.RegexpExtract,
         exp.RegexpReplace, exp.SimilarTo, exp.Lower, exp.Upper, exp.Length, exp.Substring, exp.Trim, exp.Concat,
         exp.ConcatWs, exp.DPipe, exp.Replace, exp.Left, exp.Right, exp.StartsWith, exp.EndsWith, exp.Contains,
         exp.StrPosition, exp.Split, exp.Collate, exp.MD5, exp.SHA, exp.SHA2, exp.Escape),
        "sql.text-function",
    ),
    **dict.fromkeys((exp.Cast, exp.TryCast, exp.Try, exp.Date, exp.StrToTime, exp.ParseJSON), "sql.cast"),
    **dict.fromkeys((exp.IntDiv, exp.Mod), "sql.integer-division"),
    **dict.fromkeys((exp.Star, exp.Columns), "sql.star"),
    **dict.fromkeys((exp.Placeholder, exp.Parameter), "sql.parameter"),
    exp.Kwarg: "sql.contribution",
    **dict.fromkeys(
        (exp.Count, exp.CountIf, exp.Sum, exp.Avg, exp.Variance, exp.Stddev, exp.StddevSamp, exp.Median, exp.Min,
         exp.Max, exp.Quantile, exp.ApproxQuantile, exp.PercentileCont, exp.PercentileDisc, exp.WithinGroup,
         exp.Filter),
        "sql.aggregate-place",
    ),
}  # fmt: skip
BY_NAME = {
    **dict.fromkeys(("histogram", "product", "max_by", "min_by", "arbitrary", "bitstring_agg"), "sql.raw-value"),
    **dict.fromkeys(
        ("now", "nextval", "currval", "current_setting", "getenv", "getvariable", "error", "txid_current", "setseed",
         "get_current_timestamp", "sleep_ms"),
        "sql.volatile",
    ),
    **dict.fromkeys(("hash", "strip_accents", "levenshtein", "format", "printf"), "sql.text-function"),
    "mean": "sql.aggregate-place",
}  # fmt: skip


def refusal(node: exp.Expr) -> Refused:
    """The refusal of a part that has no place in a plan: its rule, its name as SQL spells it, its position."""
    named = isinstance(node, exp.Anonymous)
    name = str(node.name if named else node.sql_name() if isinstance(node, exp.Func) else node.key)
    rule = (BY_NAME.get(name.lower()) if named else BY_NODE.get(type(node))) or "sql.unsupported"
    return Refused(rule, what=name.upper(), position=position(node))

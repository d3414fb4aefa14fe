"""Four rows of bytes times a vector of 16-bit numbers, by the instruction of AVX2 that is made for it.

VPMADDWD multiplies sixteen pairs of 16-bit numbers and adds neighbours, exactly; the compiler does not find it in a
loop over bytes and words, and multiplies 32-bit numbers one by one at two thirds of the speed. So the loop is written
in the compiler's own language here. It checks no bounds: `kernel` does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _untyped
from numba.extending import intrinsic

LANES, ROWS = 16, 4
_tools: Any = _untyped
_WORD, _HALF, _BYTE, _SIZE = ir.IntType(32), ir.IntType(16), ir.IntType(8), ir.IntType(64)
_SUMS, _HALVES, _BYTES = ir.VectorType(_WORD, LANES // 2), ir.VectorType(_HALF, LANES), ir.VectorType(_BYTE, LANES)
_MULTIPLY_ADD = ir.FunctionType(_SUMS, [_HALVES, _HALVES])
_REDUCE = ir.FunctionType(_WORD, [_SUMS])


def is_there() -> bool:
    """Whether this processor has AVX2."""
    return bool(binding.get_host_cpu_features().get("avx2", False))


def _four_rows(_typing, matrix, low, high, row, chunks, out):  # type: ignore[no-untyped-def]
    """out[row + r] = Σ matrix[row + r, j] · (low[j] + 2¹⁶ · high[j]) modulo 2³² for r < ROWS and j < LANES · chunks.

    `matrix` has bytes, `low` and `high` signed 16-bit numbers, `out` 32-bit words; all row-major.
    """
    return types.void(matrix, low, high, row, chunks, out), _generate


four_rows: Any = intrinsic(_four_rows)


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arrays = [
        context.make_array(kind)(context, builder, value=value) if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]
    matrix, low, high, row, chunks, out = arrays
    width = _tools.unpack_tuple(builder, matrix.shape)[1]
    numbers = [builder.add(row, _SIZE(offset)) for offset in range(ROWS)]
    starts = [builder.gep(matrix.data, [builder.mul(number, width)]) for number in numbers]
    sums = [_tools.alloca_once_value(builder, _SUMS(None)) for _ in range(2 * ROWS)]
    for place in sums:  # an alloca is set once in a function, this each time
        builder.store(_SUMS(None), place)
    with _tools.for_range(builder, chunks) as loop:
        _step(builder, builder.mul(loop.index, _SIZE(LANES)), starts, (low.data, high.data), sums)
    reduce = _tools.get_or_insert_function(builder.module, _REDUCE, f"llvm.vector.reduce.add.v{LANES // 2}i32")
    for offset, number in enumerate(numbers):
        lower, upper = (builder.call(reduce, [builder.load(sums[2 * offset + half])]) for half in (0, 1))
        builder.store(builder.add(lower, builder.shl(upper, _WORD(16))), builder.gep(out.data, [number]))
    return context.get_dummy_value()


def _step(builder: Any, at: Any, starts: list[Any], halves: tuple[Any, Any], sums: list[Any]) -> None:
    """LANES columns of all rows."""
    multiply_add = _tools.get_or_insert_function(builder.module, _MULTIPLY_ADD, "llvm.x86.avx2.pmadd.wd")
    factors = [_load(builder, half, at, _HALVES) for half in halves]
    for offset, start in enumerate(starts):
        numbers = builder.zext(_load(builder, start, at, _BYTES), _HALVES)
        for half, factor in enumerate(factors):
            place = sums[2 * offset + half]
            added = builder.call(multiply_add, [numbers, factor])
            builder.store(builder.add(builder.load(place), added), place)


def _load(builder: Any, base: Any, at: Any, kind: Any) -> Any:
    loaded = builder.load(builder.bitcast(builder.gep(base, [at]), kind.as_pointer()))
    loaded.align = 1  # a row begins anywhere
    return loaded

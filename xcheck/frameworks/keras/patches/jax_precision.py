"""JAX in float64: its 64-bit types switched on, and what asks for a narrow float by name kept in float64.

JAX gives a Python number the type of its company, so that nothing is rounded by the way; what is rounded is what asks
for float32 by name: `jax.nn.dot_product_attention` takes its softmax in it, and user code casts masks and tables. JAX
compiles a function once for each state in which it is called; a context of our own belongs to that state, so that
what was compiled here is not used elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import numpy as np

from ....records.islands import Islands


@contextmanager
def wide_types() -> Generator[None]:
    """Let JAX have its 64-bit types, which it has not as shipped, until the block ends."""
    import jax  # pyright: ignore[reportMissingImports]

    before = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@contextmanager
def jax_in_float64(islands: Islands) -> Generator[None]:
    """Keep to float64 until the block ends, also in what is traced and compiled meanwhile.

    Args:
        islands: told of every cast that was kept in float64, and of numbers that float32 has rounded.
    """
    from jax._src import dtypes  # pyright: ignore[reportMissingImports]
    from jax._src.lax import lax  # pyright: ignore[reportMissingImports]

    convert: Callable[..., Any] = lax._convert_element_type
    ask: Callable[..., Any] = dtypes.check_and_canonicalize_user_dtype

    def converted(operand: Any, new_dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if new_dtype is not None and hasattr(operand, "dtype"):
            old, new = _name(operand.dtype), _name(new_dtype)
            if old == "float64" and new in _NARROW and not _weak(operand):
                islands.add(f"cast to {new}")
                new_dtype = np.dtype("float64")
            elif old == "float32" and new == "float64":
                return _entered(islands, operand, convert(operand, new_dtype, *args, **kwargs))
        return convert(operand, new_dtype, *args, **kwargs)

    def asked(dtype: Any, *args: Any) -> Any:
        found = ask(dtype, *args)
        if _name(found) not in _NARROW or args[:1] == ("view",):  # which reads the bytes
            return found
        islands.add(f"{args[0] if args and args[0] else 'dtype'}={_name(found)}")
        return np.dtype("float64")

    lax._convert_element_type = converted
    dtypes.check_and_canonicalize_user_dtype = asked
    try:
        with wide_types(), _compiled_apart():
            yield
    finally:
        lax._convert_element_type = convert
        dtypes.check_and_canonicalize_user_dtype = ask


_NARROW = ("float32", "bfloat16", "float16")


def _name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _weak(operand: Any) -> bool:
    """Whether an operand is a Python number that JAX holds until it knows its company."""
    return bool(getattr(operand, "weak_type", False))


def _entered(islands: Islands, narrow: Any, wide: Any) -> Any:
    """`wide`, which numbers of float32 have become; moved while that is asked for."""
    from jax.core import Tracer  # pyright: ignore[reportMissingImports]

    if isinstance(narrow, Tracer):
        return wide  # has no values
    factors = islands.enter("cast", np.asarray(narrow))
    return wide if factors is None else wide * factors


@cache
def _context() -> Callable[[bool], AbstractContextManager[Any]]:
    import jax  # pyright: ignore[reportMissingImports]

    return jax.make_user_context(default_value=False)


@contextmanager
def _compiled_apart() -> Generator[None]:
    """What JAX compiles in this block is not used outside of it, nor the other way round."""
    with _context()(True):
        yield

"""Pickles of NumPy arrays, read without running anything in them.

A pickle is a program that can call any function of Python. Here it may build dictionaries, lists, tuples, texts, bytes, numbers
and arrays, and nothing else. Arrays are built from their bytes by the code below: NumPy's own way back from a pickle trusts the
file, which could make it read any place of the memory.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

PLAIN = "biuf"  # kinds of dtypes whose bytes are numbers


def read_pickle(path: Path) -> Any:
    """Read a pickle that holds containers, texts, numbers and NumPy arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no pickle, is cut, or holds anything else.
    """
    try:
        return _arrays(_Unpickler(io.BytesIO(path.read_bytes())).load())
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, KeyError, IndexError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a pickle of NumPy arrays: {error}") from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as a pickle of NumPy arrays: {type(error).__name__}") from error


class _Dtype:
    """A dtype that is being built: the code of a plain one, and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.objects = code in ("O", "O8")
        self.dtype = np.dtype(np.uint8 if self.objects or not isinstance(code, str) else code)
        if not isinstance(code, str) or self.dtype.kind not in PLAIN:
            raise ValueError(f"an array of type {code!r}; expected plain numbers")

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">", "="):  # the other entries describe types that are not plain
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array that is being built; `values` are the finished array or, for an array of objects, a list."""

    values: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, data = state
        if dtype.objects:
            if not isinstance(data, list) or len(shape) != 1 or shape[0] != len(data):
                raise ValueError(f"an array of objects of shape {shape}; expected a list")
            self.values = data
        else:
            self.values = _filled(data, dtype, shape, "F" if columns_first else "C")


def _filled(data: Any, dtype: _Dtype, shape: Any, order: Any) -> NDArray[Any]:
    if dtype.objects or not isinstance(data, bytes | bytearray):
        raise ValueError(f"an array of {type(data).__name__}; expected bytes")
    values = np.frombuffer(data, dtype.dtype).reshape(tuple(shape), order="F" if order == "F" else "C")
    return values.astype(dtype.dtype.newbyteorder("="))


class _ArrayClass:
    """The name numpy.ndarray; the class itself would let the file call NumPy's own way back."""

    def __new__(cls, *_: Any) -> "_ArrayClass":
        raise ValueError("an array without its bytes")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("an array without its bytes")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _ArrayClass:
        raise ValueError(f"an array of class {kind!r}; expected numpy.ndarray")
    return _Array()


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return _filled(data, dtype, (), "C")[()]


def _from_buffer(data: Any, dtype: _Dtype, shape: Any, order: Any) -> NDArray[Any]:
    return _filled(data, dtype, shape, order)


def _encoded(text: Any, coding: Any) -> bytes:
    """Return bytes as Python 3 writes them in the pickles of Python 2."""
    if not isinstance(text, str) or coding != "latin1":
        raise ValueError(f"a text in {coding!r}; expected latin1")
    return text.encode("latin1")


def _empty() -> bytes:
    """Return no bytes, as Python 3 writes them in the pickles of Python 2."""
    return b""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the names of NumPy's arrays alone."""

    known: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        ("numpy", "ndarray"): _ArrayClass,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encoded,
        ("__builtin__", "bytes"): _empty,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
        **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
        **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it calls {module}.{name}; expected arrays and plain data alone")
        known = self.known[module, name]
        return known if isinstance(known, type) else lambda *arguments: known(*arguments)  # which a file may change

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def _arrays(content: Any) -> Any:
    """Replace arrays that were being built by the finished ones."""
    if isinstance(content, _Array):
        return _arrays(content.values)
    if isinstance(content, dict):
        return {key: _arrays(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(_arrays, content))
    return content

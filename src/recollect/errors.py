"""Every error that Recollect raises on purpose.

    RecollectError
    ├── InputError (ValueError)              what was passed in cannot be used
    │   ├── DimensionMismatch                vectors of another width
    │   ├── NonFinite                        NaN or infinity
    │   ├── ZeroVector                       no direction, under the cosine metric
    │   ├── EmptyBatch                       nothing to work on
    │   ├── LengthMismatch                   two columns of one call disagree in length
    │   ├── InvalidLabel                     labels of mixed or unsupported types
    │   ├── InvalidParameter                 an option outside its range
    │   ├── DuplicateIds                     an id given twice, or used before
    │   ├── ErasedBefore                     a row that was erased and must not return
    │   ├── InvalidFilter                    a `where` that cannot be read
    │   ├── InvalidMetadata                  a column of another type
    │   ├── InvalidType (TypeError)          something that cannot be read as an array
    │   └── BadImage                         an image file that cannot be decoded safely
    ├── UnknownIds (KeyError)                no such row now
    ├── UnknownVersion (KeyError)            no such version
    ├── MemoryFault                          the memory cannot do it
    │   ├── MemoryNotFound (FileNotFoundError)
    │   ├── MemoryExists (FileExistsError)
    │   ├── MemoryLocked (BlockingIOError)   another writer holds it
    │   ├── ReadOnly (PermissionError)       opened for reading, or a past version
    │   ├── Closed (ValueError)              used after close()
    │   ├── EmptyMemory (ValueError)         asked before anything was taught
    │   ├── CorruptMemory (ValueError)       the bytes are not what was written
    │   ├── UnsupportedFormat (ValueError)   written by a newer version
    │   ├── EncoderMismatch (ValueError)     keys of another encoder
    │   ├── WriteFailed (OSError)            the disk refused; nothing changed
    │   └── ErasureIncomplete (RuntimeError) bytes remain; no receipt was issued
    ├── EncoderFault (ValueError)            an encoder gave what it should not
    └── MissingExtra (ImportError)           an optional library is not installed

Each message says what was expected and what was got; the remedy stands in a note and in
``.remedy``. Each class also derives from the builtin that a caller would expect.
"""

from __future__ import annotations


class RecollectError(Exception):
    """Base of all errors of this library.

    Args:
        problem: What is wrong, in one sentence without a full stop.
        expected: What would have been right; shown as ``expected ...`` when given.
        got: What came instead; shown as ``got ...`` when given.
        remedy: What to do about it, one or two full sentences; added as a note.

    Example:
        >>> error = InputError("k is out of range", expected="k >= 1", got=0, remedy="Ask for one.")
        >>> str(error)
        'k is out of range: expected k >= 1, got 0'
        >>> error.remedy
        'Ask for one.'
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.expected, self.got, self.remedy = problem, expected, got, remedy
        sides = [
            f"{name} {side}"
            for name, side in (("expected", expected), ("got", got))
            if side is not None
        ]
        self.message = f"{problem}: {', '.join(sides)}" if sides else problem
        super().__init__(self.message)
        if remedy:
            self.add_note(remedy)

    def __str__(self) -> str:
        # KeyError and OSError would print their arguments in ways of their own.
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors home; keyword arguments would be lost on the way.
        return _rebuild, (type(self), self.problem, self.expected, self.got, self.remedy)


def _rebuild(
    kind: type[RecollectError], problem: str, expected: object, got: object, remedy: str | None
) -> RecollectError:
    return kind(problem, expected=expected, got=got, remedy=remedy)


class InputError(RecollectError, ValueError):
    """What was passed in cannot be used; nothing was changed."""


class DimensionMismatch(InputError):
    """A vector does not have the width this memory was created with."""


class NonFinite(InputError):
    """A vector, number or weight is NaN or infinite."""


class ZeroVector(InputError):
    """A vector without direction cannot be compared by cosine."""


class EmptyBatch(InputError):
    """There is nothing to work on."""


class LengthMismatch(InputError):
    """Two columns of one call differ in length."""


class InvalidLabel(InputError):
    """Labels are neither all text nor all integers."""


class InvalidParameter(InputError):
    """An option lies outside its range."""


class DuplicateIds(InputError):
    """A row id is given twice, or was used before. Ids are never reused."""


class ErasedBefore(InputError):
    """A row was erased and is on the list of what must not return."""


class InvalidFilter(InputError):
    """A ``where`` expression cannot be read, or names an unknown column."""


class InvalidMetadata(InputError):
    """A metadata column has another type than before, or an unusable name."""


class InvalidType(InputError, TypeError):
    """An input is of a type that cannot be read, such as a sparse matrix."""


class BadImage(InputError):
    """An image cannot be decoded safely; the message names its path."""


class UnknownIds(RecollectError, KeyError):
    """No row with this id is alive in this version."""


class UnknownVersion(RecollectError, KeyError):
    """The memory has no such version."""


class MemoryFault(RecollectError):
    """The memory itself cannot do what was asked."""


class MemoryNotFound(MemoryFault, FileNotFoundError):
    """There is no memory at this place."""


class MemoryExists(MemoryFault, FileExistsError):
    """There is something at this place already."""


class MemoryLocked(MemoryFault, BlockingIOError):
    """Another writer holds this memory; the message names it."""


class ReadOnly(MemoryFault, PermissionError):
    """This handle reads only: opened so, or a view of a past version."""


class Closed(MemoryFault, ValueError):
    """The memory was used after ``close()``."""


class EmptyMemory(MemoryFault, ValueError):
    """The memory was asked before anything was taught."""


class CorruptMemory(MemoryFault, ValueError):
    """The bytes on disk are not those that were written."""


class UnsupportedFormat(MemoryFault, ValueError):
    """The memory was written by a newer version of this library."""


class EncoderMismatch(MemoryFault, ValueError):
    """The keys of this memory come from another encoder."""


class WriteFailed(MemoryFault, OSError):
    """The disk refused a write; the memory is as it was before."""


class ErasureIncomplete(MemoryFault, RuntimeError):
    """Bytes of an erased row are still on disk; no receipt was issued."""


class EncoderFault(RecollectError, ValueError):
    """An encoder cannot be built, or gave something other than finite vectors."""


class MissingExtra(RecollectError, ImportError):
    """An optional library is needed and not installed; the message names the extra."""

"""Schemas of Protobuf: ``.proto`` texts compiled by Google's own compiler, and descriptor sets.

A registry hands out ``.proto`` text, which the protobuf package cannot read. The compiler comes with
``grpcio-tools``. Texts come from outside, so it runs in a process of its own with bounded memory and time
(:mod:`broker.formats.run_protoc`): whatever a text does to it, a worker sees a schema that cannot be used.
"""

import base64
import binascii
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Final

from reviews.errors import InvalidMessage, WrongUse

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_SET_BYTES: Final = 16 * 1024 * 1024
COMPILER_SECONDS: Final = 30.0
MISSING_EXIT_CODE: Final = 69
"""How the compiler's process ends where it is not installed."""

_MAIN = "schema.proto"
_MAX_NAME_CHARACTERS = 200
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+=*\s*")
_OWN_FILE = re.compile(r"google/protobuf/([a-z_]+)\.proto")
_COMPLAINT = re.compile(r"^\S+\.proto:.*$", re.MULTILINE)
_SAID_CHARACTERS = 200
_HOW_TO_COMPILE = "protoc --include_imports --descriptor_set_out=FILE.desc FILE.proto"


def compile_schemas(text: str, imported: Mapping[str, str]) -> Any:
    """The descriptor of the file that a schema is.

    Args:
        text: Of the schema: ``.proto``, or a serialised FileDescriptorProto in base64, as Confluent's Python
            client registers them and Apicurio Registry keeps them.
        imported: The texts of the schemas that it imports, by the paths of the imports.

    Raises:
        InvalidMessage: If they cannot be compiled.
        WrongUse: If the compiler is not installed.
    """
    texts = {**imported, _MAIN: text}
    if sum(map(len, texts.values())) > MAX_TEXT_BYTES:
        raise _bad_schema(f"it has more than {MAX_TEXT_BYTES:,} characters with all that it imports")
    serialised = {name: _from_base64(name, one) for name, one in texts.items()}
    if all(one is not None for one in serialised.values()):
        return _file_in(_pool_of(serialised.values()), _MAIN)
    if any(one is not None for one in serialised.values()):
        raise _bad_schema("some of its files are texts and others are serialised")
    return _file_in(_pool_of(_files_of(_compile(texts))), _MAIN)


def compile_file(path: Path) -> list[Any]:
    """The descriptors of the types of message in a file, nested ones included; not those of files it imports.

    Args:
        path: A descriptor set, or a ``.proto`` file beside those that it imports.

    Raises:
        WrongUse: If it cannot be read or compiled.
    """
    try:
        if path.suffix == ".proto":
            path.open("rb").close()
            content = _run_compiler(path.parent, path.name)
        else:
            content = path.read_bytes()
        files = _files_of(content)
        pool = _pool_of(files)
        named = [path.name] if path.suffix == ".proto" else _not_imported(files)
        return [found for name in named for found in _types_of(_file_in(pool, name))]
    except OSError as err:
        raise WrongUse(f"The schema file '{path}' cannot be read: {err.strerror}.") from err
    except InvalidMessage as err:
        hint = "" if path.suffix == ".proto" else f" A descriptor set is made by '{_HOW_TO_COMPILE}'."
        raise WrongUse(f"The schema file '{path}' cannot be used. {err}{hint}") from None


def _types_of(parent: Any) -> list[Any]:
    """The types of message of a file, by their order in it."""
    found = []
    waiting = list(parent.message_types_by_name.values())
    while waiting:
        found.append(waiting[0])
        waiting = [*waiting[1:], *(one for one in waiting[0].nested_types if not one.GetOptions().map_entry)]
    return found


def _not_imported(files: list[Any]) -> list[str]:
    imported = {name for file in files for name in file.dependency}
    return [file.name for file in files if file.name not in imported]


def _from_base64(name: str, text: str) -> Any:
    """The file that a text is in base64, under the name that others import it by; None: it is a text."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    if not _BASE64.fullmatch(text):  # a .proto has braces, semicolons or quotes
        return None
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text))
    except (binascii.Error, DecodeError):
        raise _bad_schema("it is neither a text nor a serialised file") from None
    file.name = name
    return file


def _files_of(content: bytes) -> list[Any]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    if len(content) > MAX_SET_BYTES:
        raise _bad_schema(f"its descriptors take more than {MAX_SET_BYTES:,} bytes")
    try:
        return list(FileDescriptorSet.FromString(content).file)
    except DecodeError:
        raise _bad_schema("it is no descriptor set") from None


def _pool_of(files: Any) -> Any:
    """A pool with these files, each behind those that it imports, and Google's own where they are missing."""
    from google.protobuf.descriptor_pool import DescriptorPool

    pool, known, waiting = DescriptorPool(), set[str](), {file.name: file for file in files}
    try:
        while waiting:
            ready = [one for one in waiting.values() if not any(name in waiting for name in one.dependency)]
            if not ready:
                raise _bad_schema("its files import each other in a circle")
            for file in ready:
                _add_own(pool, file.dependency, known)
                pool.AddSerializedFile(file.SerializeToString())
                known.add(waiting.pop(file.name).name)
    except (TypeError, KeyError, ValueError, ImportError) as err:
        raise _bad_schema("its descriptors do not fit together") from err
    return pool


def _add_own(pool: Any, names: Any, present: set[str]) -> None:
    """Add Google's own files that are imported and not brought along."""
    from google.protobuf import descriptor_pool

    for name in names:
        own = _OWN_FILE.fullmatch(name)
        if own and name not in present:
            import_module(f"google.protobuf.{own[1]}_pb2")  # makes the file known
            pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(name).serialized_pb)
            present.add(name)


def _file_in(pool: Any, name: str) -> Any:
    try:
        return pool.FindFileByName(name)
    except KeyError:
        raise _bad_schema("its descriptors do not fit together") from None


def _compile(texts: Mapping[str, str]) -> bytes:
    """The descriptor set of texts, by the paths they import each other by."""
    with tempfile.TemporaryDirectory(prefix="reviewloop-proto-") as folder:
        for name, text in texts.items():
            path = Path(folder, _safe(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return _run_compiler(Path(folder), _MAIN)


def _safe(name: str) -> PurePosixPath:
    """The path of an import, which stays inside a folder.

    Raises:
        InvalidMessage: If it would not.
    """
    path = PurePosixPath(name)
    parts_are_plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", part) for part in path.parts)
    if not parts_are_plain or not path.parts or len(name) > _MAX_NAME_CHARACTERS:
        raise _bad_schema("it imports a file with a name that cannot be used")
    return path


def _run_compiler(folder: Path, name: str) -> bytes:
    command = [sys.executable, "-P", "-m", "broker.formats.run_protoc", str(folder), name]
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMPILER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _bad_schema(f"the compiler took longer than {COMPILER_SECONDS:g} s") from None
    if done.returncode == MISSING_EXIT_CODE:
        raise WrongUse(
            "Protobuf schemas as .proto text need the package grpcio-tools, which is not installed: run "
            "pip install 'reviewloop[formats]', or give the source a descriptor set, made by "
            f"'{_HOW_TO_COMPILE}'."
        )
    if done.returncode != 0:
        raise _bad_schema(_said(done.stderr.decode("utf-8", "replace")))
    return done.stdout


def _said(errors: str) -> str:
    """The compiler's first complaint about a file; its logging library adds lines of its own."""
    found = _COMPLAINT.search(errors)
    return f"the compiler says: {found[0][:_SAID_CHARACTERS]}" if found else "the compiler failed on it"


def _bad_schema(why: str) -> InvalidMessage:
    return InvalidMessage("bad_schema", f"The record's Protobuf schema cannot be used: {why}.")

"""``python -m broker.formats.run_protoc FOLDER NAME``: prints the descriptor set of a ``.proto`` file.

It limits itself before it reads the file: memory, processor time, and the size of what it writes.
"""

import sys
import tempfile
from importlib import resources
from pathlib import Path

from broker.formats.proto_files import MAX_SET_BYTES, MISSING_EXIT_CODE

_MEMORY_BYTES = 1024 * 1024 * 1024
_PROCESSOR_SECONDS = 20


def main(folder: str, name: str) -> int:
    """The exit code: 0, the compiler's own, or one that says that it is not installed."""
    _limit()
    try:
        from grpc_tools import protoc
    except ImportError:
        return MISSING_EXIT_CODE
    with tempfile.TemporaryDirectory(prefix="reviewloop-protoc-") as scratch:
        output = Path(scratch, "set.desc")
        own_files = resources.files("grpc_tools") / "_proto"
        code: int = protoc.main(
            [
                "protoc",
                f"--proto_path={folder}",
                f"--proto_path={own_files}",
                "--include_imports",
                f"--descriptor_set_out={output}",
                name,
            ]
        )
        if code == 0:
            sys.stdout.buffer.write(output.read_bytes())
    return code


def _limit() -> None:
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _PROCESSOR_SECONDS),
        (resource.RLIMIT_FSIZE, MAX_SET_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (allowed, hard))
        except (OSError, ValueError):  # macOS does not take every limit
            continue


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The header of a safetensors file, read without torch: names and shapes of its tensors."""

import json
import operator
import struct

from reviews.errors import AdapterError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def tensor_shapes(content: bytes, where: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file.

    The format: eight bytes with the header's length (little endian), then the header as JSON
    (https://github.com/huggingface/safetensors#format).

    Args:
        content: The file.
        where: Its name, for the error.

    Raises:
        AdapterError: If the content is no safetensors file.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
        # A length beyond the file or the format's limit leaves half a JSON text, which does not parse.
        header = json.loads(content[8 : 8 + min(length, _MAX_HEADER_BYTES)])
        return {
            name: tuple(map(operator.index, entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise AdapterError(f"{where} is no safetensors file ({err}); fetch the adapter again.") from err

"""What schemathesis cannot make by itself: the bytes of a TUS PATCH."""

import schemathesis


@schemathesis.serializer("application/offset+octet-stream")
def offset_octet_stream(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")

"""The Rust crate object_store, through its own Python binding (obstore): put, ranges, multipart, list, compare-and-set."""

import datetime
import hashlib
import os
import urllib.request

import boto3
import obstore
from obstore.exceptions import AlreadyExistsError, NotModifiedError, PreconditionError
from obstore.store import S3Store

from suite import ENDPOINT, MIB, ODD_NAMES, SIZES, data, raises, run

BUCKET = "crate-bucket"
# object_store makes no buckets.
s3 = boto3.client("s3", endpoint_url=ENDPOINT)
store = S3Store(
    BUCKET, endpoint=ENDPOINT, region="us-east-1", virtual_hosted_style_request=False,
    access_key_id=os.environ["AWS_ACCESS_KEY_ID"], secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    client_options={"allow_http": True}, retry_config={"max_retries": 0},
)


def get(key, **options):
    return bytes(obstore.get(store, key, **options).bytes())


def paths(prefix=None):
    return sorted(entry["path"] for page in obstore.list(store, prefix, chunk_size=3) for entry in page)


def case_sizes_whole_and_in_parts():
    for size in SIZES:
        body = data(size)
        put = obstore.put(store, f"size/{size}", body, use_multipart=False)
        assert put["e_tag"] == f'"{hashlib.md5(body).hexdigest()}"', put
        assert get(f"size/{size}") == body, size
        parts = obstore.put(store, f"parts/{size}", body, use_multipart=True, chunk_size=5 * MIB, max_concurrency=4)
        assert parts["e_tag"].split("-")[1] == f'{max(1, -(-size // (5 * MIB)))}"', parts
        assert hashlib.sha256(get(f"parts/{size}")).digest() == hashlib.sha256(body).digest(), size
        assert obstore.head(store, f"parts/{size}")["size"] == size
    obstore.put(store, "size/1", b"other")
    assert get("size/1") == b"other"


def case_ranges():
    body, key = data(SIZES[-1]), f"parts/{SIZES[-1]}"
    assert bytes(obstore.get_range(store, key, start=100, end=300)) == body[100:300]
    starts = [0, 5 * MIB - 3, 20 * MIB, len(body) - 10]
    pieces = obstore.get_ranges(store, key, starts=starts, ends=[start + 10 for start in starts])
    assert [bytes(piece) for piece in pieces] == [body[start:start + 10] for start in starts]
    assert get(key, options={"range": {"suffix": 7}}) == body[-7:]
    assert get(key, options={"range": {"offset": len(body) - 9}}) == body[-9:]


def case_odd_names_are_copied_renamed_and_listed():
    for name in ODD_NAMES:
        obstore.put(store, f"odd/{name}", name.encode())
        obstore.copy(store, f"odd/{name}", f"copy/{name}")
        obstore.rename(store, f"copy/{name}", f"moved/{name}")
        assert get(f"moved/{name}") == get(f"odd/{name}") == name.encode(), name
    assert paths("moved/") == sorted(f"moved/{name}" for name in ODD_NAMES)
    assert paths("copy/") == []
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["moved", "odd", "parts", "size"]


def case_conditional_writes_and_reads():
    first = obstore.put(store, "cas", b"1", mode="create")
    raises(AlreadyExistsError, obstore.put, store, "cas", b"x", mode="create")
    obstore.put(store, "cas", b"2", mode={"e_tag": first["e_tag"]})
    raises(PreconditionError, obstore.put, store, "cas", b"3", mode={"e_tag": first["e_tag"]})
    assert get("cas") == b"2"
    etag = obstore.head(store, "cas")["e_tag"]
    raises(NotModifiedError, get, "cas", options={"if_none_match": etag})
    raises(PreconditionError, get, "cas", options={"if_match": first["e_tag"]})


def case_signed_urls():
    minute = datetime.timedelta(minutes=1)
    for name in ODD_NAMES:
        url = obstore.sign(store, "GET", f"odd/{name}", minute)
        assert urllib.request.urlopen(url).read() == name.encode(), name
        url = obstore.sign(store, "PUT", f"signed/{name}", minute)
        urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT"))
        assert get(f"signed/{name}") == b"by url", name


def case_zz_everything_is_removed():
    raises(FileNotFoundError, get, "nothing")
    obstore.delete(store, paths())
    assert paths() == []
    s3.delete_bucket(Bucket=BUCKET)


s3.create_bucket(Bucket=BUCKET)
run(globals())

"""tuspy against a running daemon."""

import hashlib
import io
import os

import boto3
import suite
from suite import MIB, data, raises
from tusclient import client
from tusclient.exceptions import TusCommunicationError

URL = os.environ["COFFRE_REST"] + "/api/v1/files/upload/multipart"
tus = client.TusClient(URL, headers={"Authorization": "Bearer " + os.environ["COFFRE_TOKEN"]})
s3 = boto3.client("s3", endpoint_url=suite.ENDPOINT)


def keys():
    return {entry["Key"] for entry in s3.list_objects_v2(Bucket="gateway").get("Contents", [])}


def stored(before):
    """The object that has come since."""
    (key,) = keys() - before
    return s3.get_object(Bucket="gateway", Key=key)


def case_sizes_and_chunks():
    for size, chunk in [(1, MIB), (MIB, MIB), (5 * MIB + 1, MIB), (300_000, 65_537)]:
        before, content = keys(), data(size)
        tus.uploader(file_stream=io.BytesIO(content), chunk_size=chunk).upload()
        assert hashlib.sha256(stored(before)["Body"].read()).digest() == hashlib.sha256(content).digest(), size


def case_a_checksum_with_each_request():
    before, content = keys(), data(3 * MIB + 7)
    tus.uploader(file_stream=io.BytesIO(content), chunk_size=MIB, upload_checksum=True).upload()
    assert stored(before)["Body"].read() == content


def case_metadata():
    before = keys()
    metadata = {"filename": "été.txt", "filetype": "text/x-test", "path": "a/b", "campaign": "spring"}
    tus.uploader(file_stream=io.BytesIO(b"x"), metadata=metadata).upload()
    (key,) = keys() - before
    assert "/a/b/été_" in key and key.endswith(".txt"), key
    found = s3.head_object(Bucket="gateway", Key=key)
    assert found["ContentType"] == "text/x-test" and found["Metadata"] == {"campaign": "spring"}, found


def case_resumed_by_its_address():
    before, content = keys(), data(3 * MIB)
    first = tus.uploader(file_stream=io.BytesIO(content), chunk_size=MIB)
    first.upload_chunk()
    again = tus.uploader(file_stream=io.BytesIO(content), url=first.url, chunk_size=MIB)
    assert again.get_offset() == MIB
    again.upload()
    assert stored(before)["Body"].read() == content


def case_a_wrong_token():
    stranger = client.TusClient(URL, headers={"Authorization": "Bearer 1|x"})
    error = raises(TusCommunicationError, stranger.uploader(file_stream=io.BytesIO(b"x")).upload)
    assert error.status_code == 401, error


suite.run(globals())

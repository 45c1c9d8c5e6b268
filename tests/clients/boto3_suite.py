"""boto3 against a running daemon. Each function whose name begins with `case_` is a case; a failure ends the run."""

import hashlib
import io
import json
import os
import random
import threading
import urllib.error
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["COFFRE_ENDPOINT"]
MIB = 1 << 20


def client(**options):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **options)
    return boto3.client("s3", endpoint_url=ENDPOINT, config=config)


s3 = client()
BUCKET = "boto-bucket"


def data(length, seed=1):
    return random.Random(seed * 1_000_003 + length).randbytes(length)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        return error.response
    raise AssertionError(f"{call} should have answered {code}")


def get(key, **arguments):
    return s3.get_object(Bucket=BUCKET, Key=key, **arguments)["Body"].read()


def case_round_trips_of_many_sizes():
    for length in [0, 1, 4095, 4096, 128 * 1024, 128 * 1024 + 1, MIB, 8 * MIB, 9 * MIB + 17]:
        body = data(length)
        put = s3.put_object(Bucket=BUCKET, Key=f"size/{length}", Body=body)
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', put
        assert get(f"size/{length}") == body, length


def case_every_checksum_in_header_and_trailer():
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        try:
            put = s3.put_object(Bucket=BUCKET, Key="sum", Body=data(70_000), ChecksumAlgorithm=algorithm)
        except Exception as error:  # the C extension for CRC32C and CRC64NVME is optional in botocore
            assert "awscrt" in str(error).lower() or "Missing Dependency" in str(error), error
            continue
        field = f"Checksum{algorithm}"
        read = s3.get_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")
        assert read[field] == put[field] and read["Body"].read() == data(70_000), algorithm
    wrong = {"Bucket": BUCKET, "Key": "wrong", "Body": b"x", "ChecksumSHA256": "A" * 43 + "="}
    refused("BadDigest", s3.put_object, **wrong)
    refused("404", s3.head_object, Bucket=BUCKET, Key="wrong")
    refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"x", ContentMD5="A" * 22 + "==")
    refused("404", s3.head_object, Bucket=BUCKET, Key="wrong")


def case_metadata_headers_and_overrides():
    s3.put_object(
        Bucket=BUCKET, Key="meta", Body=b"<p>", ContentType="text/html", CacheControl="no-cache",
        ContentDisposition='attachment; filename="a b.html"', ContentEncoding="identity", ContentLanguage="fr",
        Metadata={"one": "1", "two-words": "deux mots"},
    )
    head = s3.head_object(Bucket=BUCKET, Key="meta")
    assert head["Metadata"] == {"one": "1", "two-words": "deux mots"}, head
    assert head["CacheControl"] == "no-cache" and head["ContentLanguage"] == "fr", head
    read = s3.get_object(Bucket=BUCKET, Key="meta", ResponseContentType="text/plain", ResponseCacheControl="x")
    assert (read["ContentType"], read["CacheControl"]) == ("text/plain", "x"), read


def case_ranges():
    body = data(300_000)
    s3.put_object(Bucket=BUCKET, Key="range", Body=body)
    for header, part in [("bytes=0-0", body[:1]), ("bytes=100-", body[100:]), ("bytes=-7", body[-7:]),
                         ("bytes=299999-400000", body[299_999:])]:
        read = s3.get_object(Bucket=BUCKET, Key="range", Range=header)
        assert read["Body"].read() == part and read["ResponseMetadata"]["HTTPStatusCode"] == 206, header
    refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key="range", Range="bytes=300000-")


def case_hostile_keys():
    keys = ["../up", "a//b", "/lead", "sp ace", "plus+plus", "emoji-🎉", "per%2Fcent", "tab\tkey", "q?x=1&y", "é/ü/字",
            ".", "..", "a/../b", "x" * 1024, "dir/", "<&>\"'"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=f"k/{key}"[:1024], Body=key.encode())
    for key in keys:
        assert get(f"k/{key}"[:1024]) == key.encode(), key
    listed = [entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="k/", PaginationConfig={"PageSize": 3}) for entry in page["Contents"]]
    assert listed == sorted((f"k/{key}"[:1024] for key in keys), key=lambda k: k.encode()), listed
    refused("KeyTooLongError", s3.put_object, Bucket=BUCKET, Key="y" * 1025, Body=b"")


def case_listing_with_delimiters():
    for key in ["l/a/1", "l/a/2", "l/b", "l/c/1", "l/d"]:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="l/", Delimiter="/")
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["l/a/", "l/c/"], page
    assert [e["Key"] for e in page["Contents"]] == ["l/b", "l/d"], page
    seen, token = [], {}
    while True:
        page = s3.list_objects_v2(Bucket=BUCKET, Prefix="l/", Delimiter="/", MaxKeys=1, **token)
        seen += [p["Prefix"] for p in page.get("CommonPrefixes", [])] + [e["Key"] for e in page.get("Contents", [])]
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert seen == ["l/a/", "l/b", "l/c/", "l/d"], seen
    old = s3.list_objects(Bucket=BUCKET, Prefix="l/", Marker="l/b")
    assert [e["Key"] for e in old["Contents"]] == ["l/c/1", "l/d"], old
    after = s3.list_objects_v2(Bucket=BUCKET, Prefix="l/", StartAfter="l/a/1")
    assert after["KeyCount"] == 4, after


def case_delete_many():
    for i in range(1000):
        s3.put_object(Bucket=BUCKET, Key=f"many/{i}", Body=str(i).encode())
    objects = [{"Key": f"many/{i}"} for i in range(1000)]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    assert len(answer["Deleted"]) == 1000 and "Errors" not in answer, answer.get("Errors")
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="many/")["KeyCount"] == 0


def case_copies():
    body = data(9 * MIB)
    s3.put_object(Bucket=BUCKET, Key="source é", Body=body, Metadata={"a": "b"}, Tagging="t=1")
    source = {"Bucket": BUCKET, "Key": "source é"}
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source)
    head = s3.head_object(Bucket=BUCKET, Key="copy")
    assert head["Metadata"] == {"a": "b"} and get("copy") == body
    assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"})
    assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"c": "d"}
    refused("InvalidRequest", s3.copy_object, Bucket=BUCKET, Key="source é", CopySource=source)
    refused("PreconditionFailed", s3.copy_object, Bucket=BUCKET, Key="x", CopySource=source, CopySourceIfMatch="no")
    s3.delete_object(Bucket=BUCKET, Key="source é")
    assert get("copy") == body


def case_multipart_with_copied_parts_and_checksums():
    body = data(12 * MIB)
    s3.put_object(Bucket=BUCKET, Key="origin", Body=body)
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts", ChecksumAlgorithm="CRC32",
                                        ChecksumType="COMPOSITE")["UploadId"]
    names = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload}
    one = s3.upload_part(PartNumber=1, Body=body[: 5 * MIB], ChecksumAlgorithm="CRC32", **names)
    two = s3.upload_part_copy(PartNumber=2, CopySource={"Bucket": BUCKET, "Key": "origin"},
                              CopySourceRange=f"bytes={5 * MIB}-{12 * MIB - 1}", **names)["CopyPartResult"]
    assert [p["Size"] for p in s3.list_parts(**names)["Parts"]] == [5 * MIB, 7 * MIB]
    parts = [{"PartNumber": n, "ETag": p["ETag"], "ChecksumCRC32": p["ChecksumCRC32"]}
             for n, p in [(1, one), (2, two)]]
    refused("InvalidPart", s3.complete_multipart_upload,
            MultipartUpload={"Parts": [parts[0], {**parts[1], "ETag": '"00"'}]}, **names)
    refused("InvalidPartOrder", s3.complete_multipart_upload, MultipartUpload={"Parts": parts[::-1]}, **names)
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **names)
    again = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **names)
    assert done["ETag"] == again["ETag"] and done["ETag"].endswith('-2"'), (done, again)
    digests = b"".join(hashlib.md5(part).digest() for part in (body[: 5 * MIB], body[5 * MIB:]))
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"', done
    assert get("parts") == body
    part = s3.get_object(Bucket=BUCKET, Key="parts", PartNumber=2)
    assert part["Body"].read() == body[5 * MIB:] and part["PartsCount"] == 2, part
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key="parts",
                                          ObjectAttributes=["ETag", "ObjectSize", "ObjectParts", "Checksum"])
    assert attributes["ObjectSize"] == 12 * MIB and attributes["ObjectParts"]["TotalPartsCount"] == 2, attributes
    refused("NoSuchUpload", s3.upload_part, Bucket=BUCKET, Key="parts", UploadId="0" * 32, PartNumber=1, Body=b"")
    small = s3.create_multipart_upload(Bucket=BUCKET, Key="small")["UploadId"]
    etags = [s3.upload_part(Bucket=BUCKET, Key="small", UploadId=small, PartNumber=n, Body=b"x")["ETag"]
             for n in (1, 2)]
    refused("EntityTooSmall", s3.complete_multipart_upload, Bucket=BUCKET, Key="small", UploadId=small,
            MultipartUpload={"Parts": [{"PartNumber": n + 1, "ETag": e} for n, e in enumerate(etags)]})
    s3.abort_multipart_upload(Bucket=BUCKET, Key="small", UploadId=small)
    refused("NoSuchUpload", s3.list_parts, Bucket=BUCKET, Key="small", UploadId=small)


def case_managed_transfers_in_parallel():
    body = data(70 * MIB)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=8)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "managed", Config=config)
    back = io.BytesIO()
    s3.download_fileobj(BUCKET, "managed", back, Config=config)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(body).digest()


def case_conditional_writes_race():
    outcomes = []

    def write(i):
        try:
            client().put_object(Bucket=BUCKET, Key="race", Body=str(i).encode(), IfNoneMatch="*")
            outcomes.append(i)
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), error

    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert len(outcomes) == 1 and get("race") == str(outcomes[0]).encode(), outcomes
    etag = s3.head_object(Bucket=BUCKET, Key="race")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="race", Body=b"next", IfMatch=etag)
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="race", Body=b"no", IfMatch=etag)
    refused("NoSuchKey", s3.put_object, Bucket=BUCKET, Key="never", Body=b"no", IfMatch=etag)


def case_versions():
    s3.create_bucket(Bucket="boto-versions")
    s3.put_bucket_versioning(Bucket="boto-versions", VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket="boto-versions", Key="k", Body=str(i).encode())["VersionId"] for i in range(5)]
    marker = s3.delete_object(Bucket="boto-versions", Key="k")
    assert marker["DeleteMarker"] is True
    refused("NoSuchKey", s3.get_object, Bucket="boto-versions", Key="k")
    seen = []
    for page in s3.get_paginator("list_object_versions").paginate(
            Bucket="boto-versions", PaginationConfig={"PageSize": 2}):
        seen += [v["VersionId"] for v in page.get("Versions", [])]
    assert seen == ids[::-1], seen
    for i, version in enumerate(ids):
        read = s3.get_object(Bucket="boto-versions", Key="k", VersionId=version)
        assert read["Body"].read() == str(i).encode() and read["VersionId"] == version
    s3.delete_object(Bucket="boto-versions", Key="k", VersionId=marker["VersionId"])
    s3.delete_object(Bucket="boto-versions", Key="k", VersionId=ids[-1])
    assert s3.get_object(Bucket="boto-versions", Key="k")["Body"].read() == b"3"
    refused("NoSuchVersion", s3.get_object, Bucket="boto-versions", Key="k", VersionId=ids[-1])
    refused("BucketNotEmpty", s3.delete_bucket, Bucket="boto-versions")
    for version in ids[:-1]:
        s3.delete_object(Bucket="boto-versions", Key="k", VersionId=version)
    s3.delete_bucket(Bucket="boto-versions")


def case_presigned_urls():
    # boto3 presigns with SigV2 in us-east-1 unless told; that is off (contract D37).
    signer = client(signature_version="s3v4")
    try:
        urllib.request.urlopen(s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "meta"}, 60))
    except urllib.error.HTTPError as error:
        assert error.code == 403 and b"AccessDenied" in error.read(), error
    else:
        raise AssertionError("a SigV2 URL was accepted")
    put = signer.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "signed", "ContentType": "text/x"}, 60)
    request = urllib.request.Request(put, data=b"by url", method="PUT", headers={"Content-Type": "text/x"})
    assert urllib.request.urlopen(request).status == 200
    for method in ("get_object", "head_object"):
        url = signer.generate_presigned_url(method, {"Bucket": BUCKET, "Key": "signed"}, 60)
        verb = "HEAD" if method.startswith("head") else "GET"
        answer = urllib.request.urlopen(urllib.request.Request(url, method=verb))
        assert answer.read() == (b"" if verb == "HEAD" else b"by url"), verb
    url = signer.generate_presigned_url("delete_object", {"Bucket": BUCKET, "Key": "signed"}, 60)
    assert urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).status == 204
    refused("404", s3.head_object, Bucket=BUCKET, Key="signed")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="signed")["UploadId"]
    url = signer.generate_presigned_url(
        "upload_part", {"Bucket": BUCKET, "Key": "signed", "UploadId": upload, "PartNumber": 1}, 60)
    etag = urllib.request.urlopen(urllib.request.Request(url, data=b"part", method="PUT")).headers["ETag"]
    s3.complete_multipart_upload(Bucket=BUCKET, Key="signed", UploadId=upload,
                                 MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert get("signed") == b"part"


def case_anonymous_by_policy():
    from botocore import UNSIGNED
    nobody = client(signature_version=UNSIGNED)
    s3.put_object(Bucket=BUCKET, Key="open/x", Body=b"open")
    s3.put_object(Bucket=BUCKET, Key="shut/x", Body=b"shut")
    refused("AccessDenied", nobody.get_object, Bucket=BUCKET, Key="open/x")
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
                                                      "Resource": f"arn:aws:s3:::{BUCKET}/open/*"}]}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    assert json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"]) == policy
    assert nobody.get_object(Bucket=BUCKET, Key="open/x")["Body"].read() == b"open"
    refused("AccessDenied", nobody.get_object, Bucket=BUCKET, Key="shut/x")
    refused("AccessDenied", nobody.get_object, Bucket=BUCKET, Key="open/unknown")
    refused("AccessDenied", nobody.put_object, Bucket=BUCKET, Key="open/y", Body=b"")
    refused("AccessDenied", nobody.list_objects_v2, Bucket=BUCKET)
    refused("MalformedPolicy", s3.put_bucket_policy, Bucket=BUCKET, Policy="{}")
    s3.delete_bucket_policy(Bucket=BUCKET)
    refused("AccessDenied", nobody.get_object, Bucket=BUCKET, Key="open/x")


def case_errors_have_their_names():
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="no-such-bucket")
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="no-such-key")
    refused("NoSuchTagSet", s3.get_bucket_tagging, Bucket=BUCKET)
    refused("NoSuchBucketPolicy", s3.get_bucket_policy, Bucket=BUCKET)
    wrong = boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
                         aws_secret_access_key="wrong" * 8)
    refused("SignatureDoesNotMatch", wrong.list_buckets)
    unknown = boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id="AKIANOBODY", aws_secret_access_key="x" * 40)
    refused("InvalidAccessKeyId", unknown.list_buckets)


def main():
    s3.create_bucket(Bucket=BUCKET)
    cases = [(name, case) for name, case in globals().items() if name.startswith("case_")]
    for name, case in cases:
        print(name, flush=True)
        case()
    print(f"{len(cases)} cases passed")


main()

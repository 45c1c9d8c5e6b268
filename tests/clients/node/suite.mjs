// The AWS SDK for JavaScript against a running daemon. Each case is a named function of `cases`; a failure ends the run.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import * as S3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const Bucket = "node-bucket";
const MIB = 1 << 20;
const LARGE = (process.env.COFFRE_LONG ? 300 : 23) * MIB + 17;
// Names that clients encode in different ways.
const ODD_NAMES = ["sp ace", "plus+plus", "per%2Fcent%", "été 字🎉", "a&b=c?d#e", "q'uote", "til~de!(x)*", "a//b", "/lead"];

const endpoint = process.env.COFFRE_ENDPOINT;
assert.ok(endpoint, "COFFRE_ENDPOINT says where the daemon is");
const s3 = new S3.S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, maxAttempts: 1 });

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const send = (command, input) => s3.send(new S3[`${command}Command`]({ Bucket, ...input }));
const get = async (Key, more) => Buffer.from(await (await send("GetObject", { Key, ...more })).Body.transformToByteArray());

/** The bytes a MiB at a time, as a file that is read would come. */
function* pieces(bytes) {
  for (let at = 0; at < bytes.length; at += MIB) yield bytes.subarray(at, at + MIB);
}

async function refused(name, status, command, input) {
  await assert.rejects(send(command, input), (error) => {
    assert.equal(error.$metadata?.httpStatusCode, status, error);
    if (name) assert.equal(error.name, name);
    return true;
  });
}

const cases = {
  async sizesAndOverwrites() {
    for (const size of [0, 1, 4096, 128 * 1024 + 1, 5 * MIB, 9 * MIB + 1]) {
      const Body = randomBytes(size);
      const put = await send("PutObject", { Key: `size/${size}`, Body });
      assert.equal(put.ETag, `"${createHash("md5").update(Body).digest("hex")}"`);
      assert.equal(sha256(await get(`size/${size}`)), sha256(Body), `${size}`);
      assert.equal((await send("HeadObject", { Key: `size/${size}` })).ContentLength, size);
    }
    await send("PutObject", { Key: "size/1", Body: "other" });
    assert.equal((await get("size/1")).toString(), "other");
  },

  // In Node a body that is a stream goes out chunked, its checksum in a trailer.
  async everyChecksumOfBuffersAndStreams() {
    const bytes = randomBytes(300_001);
    for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]) {
      for (const Body of [bytes, Readable.from(pieces(bytes))]) {
        const more = { ContentLength: bytes.length, ChecksumAlgorithm };
        const put = await send("PutObject", { Key: "sum", Body, ...more });
        const read = await send("GetObject", { Key: "sum", ChecksumMode: "ENABLED" });
        assert.ok(put[`Checksum${ChecksumAlgorithm}`], ChecksumAlgorithm);
        assert.equal(read[`Checksum${ChecksumAlgorithm}`], put[`Checksum${ChecksumAlgorithm}`]);
        assert.equal(sha256(await read.Body.transformToByteArray()), sha256(bytes), ChecksumAlgorithm);
      }
    }
    const wrong = { Key: "wrong", Body: "x", ChecksumSHA256: `${"A".repeat(43)}=` };
    await refused("BadDigest", 400, "PutObject", wrong);
    await refused("NotFound", 404, "HeadObject", { Key: "wrong" });
  },

  async uploadsInParts() {
    const bytes = randomBytes(LARGE);
    const options = { client: s3, partSize: 5 * MIB, queueSize: 4 };
    const seen = [];
    for (const Body of [bytes, Readable.from(pieces(bytes))]) {
      const upload = new Upload({ ...options, params: { Bucket, Key: "big é+", Body, Metadata: { one: "1" } } });
      upload.on("httpUploadProgress", (progress) => seen.push(progress.part));
      const done = await upload.done();
      assert.match(done.ETag, new RegExp(`-${Math.ceil(LARGE / (5 * MIB))}"$`));
      assert.equal(sha256(await get("big é+")), sha256(bytes));
    }
    assert.equal(seen.length, 2 * Math.ceil(LARGE / (5 * MIB)));
    assert.deepEqual((await send("HeadObject", { Key: "big é+" })).Metadata, { one: "1" });
    assert.ok((await get("big é+", { Range: "bytes=100-199" })).equals(bytes.subarray(100, 200)));
    assert.ok((await get("big é+", { PartNumber: 2 })).equals(bytes.subarray(5 * MIB, 10 * MIB)));
    const asked = { Key: "big é+", ObjectAttributes: ["ETag", "Checksum", "ObjectParts", "ObjectSize"] };
    const attributes = await send("GetObjectAttributes", asked);
    assert.equal(attributes.ObjectSize, LARGE);
    assert.equal(attributes.ObjectParts.TotalPartsCount, Math.ceil(LARGE / (5 * MIB)));
    const small = await new Upload({ ...options, params: { Bucket, Key: "small", Body: "x" } }).done();
    assert.equal(small.Location, `${endpoint}/${Bucket}/small`);
  },

  async anAbortedUploadLeavesNothing() {
    const upload = new Upload({ client: s3, partSize: 5 * MIB, params: { Bucket, Key: "never", Body: randomBytes(11 * MIB) } });
    upload.on("httpUploadProgress", () => upload.abort());
    await assert.rejects(upload.done(), { name: "AbortError" });
    await refused("NotFound", 404, "HeadObject", { Key: "never" });
    // The SDK takes its upload back on its own, after it has said that it was aborted.
    for (let looks = 0; (await send("ListMultipartUploads", {})).Uploads; looks++) {
      assert.ok(looks < 400, "the upload is still there");
      await new Promise((later) => setTimeout(later, 25));
    }
  },

  async oddNamesAreCopiedSignedAndListed() {
    for (const name of ODD_NAMES) {
      const Body = Buffer.from(name);
      await send("PutObject", { Key: `odd/${name}`, Body });
      await send("CopyObject", { Key: `copy/${name}`, CopySource: encodeURIComponent(`${Bucket}/odd/${name}`) });
      assert.ok((await get(`copy/${name}`)).equals(Body), name);
      const read = await getSignedUrl(s3, new S3.GetObjectCommand({ Bucket, Key: `odd/${name}` }), { expiresIn: 60 });
      assert.ok(Buffer.from(await (await fetch(read)).arrayBuffer()).equals(Body), name);
      const put = new S3.PutObjectCommand({ Bucket, Key: `signed/${name}`, ContentType: "text/x" });
      const write = await getSignedUrl(s3, put, { expiresIn: 60, signableHeaders: new Set(["content-type"]) });
      const headers = { "content-type": "text/x" };
      assert.equal((await fetch(write, { method: "PUT", body: "by url", headers })).status, 200, name);
      assert.equal((await get(`signed/${name}`)).toString(), "by url");
      const wrong = { "content-type": "text/html" };
      assert.equal((await fetch(write, { method: "PUT", body: "no", headers: wrong })).status, 403, name);
    }
    const found = [];
    for await (const page of S3.paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket, Prefix: "copy/" })) {
      found.push(...(page.Contents ?? []).map((entry) => entry.Key));
    }
    const byBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
    assert.deepEqual(found, ODD_NAMES.map((name) => `copy/${name}`).sort(byBytes));
    const top = await send("ListObjectsV2", { Delimiter: "/" });
    assert.deepEqual(top.CommonPrefixes.map((entry) => entry.Prefix), ["copy/", "odd/", "signed/", "size/"]);
  },

  async conditionsAndErrorsHaveTheirNames() {
    const { ETag } = await send("PutObject", { Key: "cas", Body: "1" });
    await refused("PreconditionFailed", 412, "PutObject", { Key: "cas", Body: "x", IfNoneMatch: "*" });
    await send("PutObject", { Key: "cas", Body: "2", IfMatch: ETag });
    await refused("PreconditionFailed", 412, "PutObject", { Key: "cas", Body: "3", IfMatch: ETag });
    const now = (await send("HeadObject", { Key: "cas" })).ETag;
    await refused(undefined, 304, "GetObject", { Key: "cas", IfNoneMatch: now });
    await refused("NoSuchKey", 404, "GetObject", { Key: "nothing" });
    await refused("NoSuchBucket", 404, "ListObjectsV2", { Bucket: "no-such-bucket" });
    await refused("BucketNotEmpty", 409, "DeleteBucket", {});
    await S3.waitUntilObjectExists({ client: s3, minDelay: 1, maxWaitTime: 5 }, { Bucket, Key: "cas" });
  },

  async everythingIsRemoved() {
    const { Contents } = await send("ListObjectsV2", {});
    const Objects = Contents.map(({ Key }) => ({ Key }));
    const { Deleted, Errors } = await send("DeleteObjects", { Delete: { Objects } });
    assert.equal(Errors, undefined);
    assert.equal(Deleted.length, Objects.length);
    assert.equal((await send("ListObjectsV2", {})).KeyCount, 0);
    await send("DeleteBucket", {});
  },
};

await send("CreateBucket", {});
for (const [name, run] of Object.entries(cases)) {
  console.log(name);
  await run();
}
console.log(`${Object.keys(cases).length} cases passed`);

// tus-js-client and Uppy, untouched, against a running daemon. Each case is a named function of `cases`; a failure ends the run.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import Uppy from "@uppy/core";
import UppyTus from "@uppy/tus";
import * as tus from "tus-js-client";

const MIB = 1 << 20;
const endpoint = `${process.env.COFFRE_REST}/api/v1/files/upload/multipart`;
const s3 = process.env.COFFRE_ENDPOINT;
assert.ok(process.env.COFFRE_REST && s3, "COFFRE_REST and COFFRE_ENDPOINT say where the daemon is");
const headers = { Authorization: `Bearer ${process.env.COFFRE_TOKEN}` };
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** What the answers' headers said last: key and address of the object. */
function watching(seen) {
  return (_request, response) => {
    seen.key = response.getHeader("X-S3-Key") ?? seen.key;
    seen.url = response.getHeader("X-Public-Url") ?? seen.url;
    seen.statuses = [...(seen.statuses ?? []), response.getStatus()];
  };
}

function upload(input, options) {
  return new Promise((resolve, reject) => {
    const seen = {};
    const made = new tus.Upload(input, {
      endpoint,
      headers,
      retryDelays: [0, 200, 1000],
      metadata: { filename: "test.bin", filetype: "application/x-test" },
      onAfterResponse: watching(seen),
      onError: reject,
      onSuccess: () => resolve({ made, seen }),
      ...options,
    });
    made.start();
  });
}

async function stored(seen) {
  const answer = await fetch(seen.url);
  assert.equal(answer.status, 200, seen.url);
  return { bytes: Buffer.from(await answer.arrayBuffer()), type: answer.headers.get("content-type") };
}

const cases = {
  async sizesAndChunks() {
    for (const [size, chunkSize] of [[0, Infinity], [1, Infinity], [5 * MIB, Infinity], [5 * MIB, MIB], [5 * MIB + 1, MIB]]) {
      const bytes = randomBytes(size);
      const { seen } = await upload(bytes, { chunkSize });
      const { bytes: read, type } = await stored(seen);
      assert.equal(sha256(read), sha256(bytes), `${size} in ${chunkSize}`);
      assert.equal(type, "application/x-test");
    }
  },

  async bytesWithTheCreation() {
    const bytes = randomBytes(2 * MIB + 3);
    const { seen } = await upload(bytes, { uploadDataDuringCreation: true, chunkSize: MIB });
    assert.equal(sha256((await stored(seen)).bytes), sha256(bytes));
    assert.equal(seen.statuses[0], 201);
  },

  // Both a length that is a multiple of the chunk's and one that is not.
  async lengthSaidLater() {
    for (const size of [3 * MIB, 3 * MIB + 5]) {
      const bytes = randomBytes(size);
      const { seen } = await upload(Readable.from([bytes]), { uploadLengthDeferred: true, chunkSize: MIB });
      assert.equal(sha256((await stored(seen)).bytes), sha256(bytes), `${size}`);
    }
  },

  async severalAtATimeAreComposed() {
    for (const parallelUploads of [2, 5]) {
      const bytes = randomBytes(6 * MIB + 11);
      const { seen } = await upload(bytes, { parallelUploads, chunkSize: MIB });
      assert.equal(sha256((await stored(seen)).bytes), sha256(bytes), `${parallelUploads}`);
    }
  },

  async stoppedAndResumed() {
    const bytes = randomBytes(4 * MIB);
    const url = await new Promise((resolve, reject) => {
      const first = new tus.Upload(bytes, {
        endpoint,
        headers,
        chunkSize: MIB,
        onError: reject,
        onChunkComplete: (_size, done) => {
          if (done < 2 * MIB) return;
          first.abort().then(() => resolve(first.url));
        },
      });
      first.start();
    });
    const { seen } = await upload(bytes, { uploadUrl: url, chunkSize: MIB });
    assert.equal(sha256((await stored(seen)).bytes), sha256(bytes));
    assert.equal(seen.statuses[0], 200, "it asked how far it was");
  },

  async givenUp() {
    const made = new tus.Upload(randomBytes(2 * MIB), { endpoint, headers, chunkSize: MIB });
    await new Promise((resolve, reject) => {
      made.options.onError = reject;
      made.options.onChunkComplete = resolve;
      made.start();
    });
    await made.abort(true);
    const asked = await fetch(made.url, { method: "HEAD", headers: { ...headers, "Tus-Resumable": "1.0.0" } });
    assert.equal(asked.status, 404);
  },

  async uppy() {
    const bytes = randomBytes(3 * MIB + 1);
    const uppy = new Uppy({ logger: { debug() {}, warn() {}, error: console.error } });
    uppy.use(UppyTus, { endpoint, headers, chunkSize: MIB, retryDelays: [0, 200] });
    // In Node its tus client takes buffers, and Uppy asks files for their size as browsers have it.
    const data = Object.assign(Buffer.from(bytes), { size: bytes.length });
    uppy.addFile({ name: "été.bin", type: "application/x-uppy", data });
    const result = await uppy.upload();
    assert.deepEqual(result.failed, []);
    const answer = await fetch(result.successful[0].uploadURL, { headers });
    const read = await stored({ url: answer.headers.get("x-public-url") });
    assert.equal(sha256(read.bytes), sha256(bytes));
    assert.equal(read.type, "application/x-uppy");
    assert.match(answer.headers.get("x-s3-key"), /%C3%A9t%C3%A9_\d+_[0-9a-f]{8}\.bin$/);
  },
};

for (const [name, run] of Object.entries(cases)) {
  console.log(name);
  await run();
}
console.log(`${Object.keys(cases).length} cases passed`);
process.exit(0);

/**
 * Bounds what compressed messages may become: a megabyte of gzip or zstd can hold a gigabyte. To be imported before the client's
 * library, which takes both functions from `node:zlib` when it is loaded, and calls them without a limit. (What lz4 and snappy
 * can hold is bounded by their formats, to 255 and some 21 times their size.)
 */
import zlib from 'node:zlib';

/** Bytes of one batch. Brokers take batches of a megabyte by default, and JSON seldom gets smaller than a fiftieth. */
const largest = 128 << 20;

/** Messages of one batch: one of nothing has seven bytes, and takes some hundred of memory when it is read. */
const mostRecords = 500_000;

type Decompress = (data: Uint8Array, options?: zlib.ZlibOptions) => Buffer;

for (const name of ['gunzipSync', 'zstdDecompressSync'] as const) {
  // Node has zstd since 22.15.
  const decompress = zlib[name] as Decompress | undefined;
  if (decompress === undefined) continue;
  const bounded: Decompress = (data, options) => {
    const records = decompress(data, { ...options, maxOutputLength: largest });
    if (hasTooMany(records)) throw new RangeError(`a batch has more than ${mostRecords} messages`);
    return records;
  };
  Object.assign(zlib, { [name]: bounded });
}

/** Each begins with its length, a zigzag varint (record format of message format 2, Kafka 0.11). */
function hasTooMany(records: Buffer): boolean {
  if (records.length <= mostRecords) return false;
  let count = 0;
  for (let at = 0; at < records.length; count++) {
    if (count > mostRecords) return true;
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = records[at++] ?? 0;
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80 || shift > 28) break;
    }
    at += Math.floor(length / 2);
  }
  return false;
}

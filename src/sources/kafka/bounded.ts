/**
 * Bounds what compressed messages may become: a megabyte of gzip or zstd can hold a gigabyte. To be imported before the client's
 * library, which takes both functions from `node:zlib` when it is loaded, and calls them without a limit. (What lz4 and snappy
 * can hold is bounded by their formats, to 255 and some 21 times their size.)
 */
import zlib from 'node:zlib';

/** Bytes of one batch. Brokers take batches of a megabyte by default, and JSON seldom gets smaller than a fiftieth. */
const largest = 128 << 20;

type Decompress = (data: Uint8Array, options?: zlib.ZlibOptions) => Buffer;

for (const name of ['gunzipSync', 'zstdDecompressSync'] as const) {
  // Node has zstd since 22.15.
  const decompress = zlib[name] as Decompress | undefined;
  if (decompress === undefined) continue;
  const bounded: Decompress = (data, options) => decompress(data, { ...options, maxOutputLength: largest });
  Object.assign(zlib, { [name]: bounded });
}

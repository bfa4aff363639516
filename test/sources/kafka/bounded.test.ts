import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import '../../../src/sources/kafka/bounded.ts';

/** Records of so many bytes behind their length (zigzag), below 64. */
const records = (count: number, bytes: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => Buffer.concat([Buffer.from([bytes * 2]), Buffer.alloc(bytes)])));

test.each([
  ['gzip', zlib.gzipSync, zlib.gunzipSync],
  ['zstd', zlib.zstdCompressSync, zlib.zstdDecompressSync],
] as const)('%s inflates to no more than a batch may be', (_name, compress, decompress) => {
  const few = records(10_000, 60);
  expect(decompress(compress(few))).toEqual(few);
  expect(() => decompress(compress(Buffer.alloc((128 << 20) + 1, 0x7f)))).toThrowError();
  expect(() => decompress(compress(Buffer.alloc(600_000)))).toThrowError(/more than 500000 messages/);
  const long = Buffer.concat([Buffer.from([0x80, 0x89, 0x7a]), Buffer.alloc(1_000_000, 0xff)]);
  expect(decompress(compress(long))).toEqual(long);
});

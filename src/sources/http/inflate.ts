/** gzip (RFC 1952), bounded in what comes out of it. */
import { gunzip } from 'node:zlib';

/**
 * Bytes out for a byte in. Lists of alerts that hardly differ come to some 50; DEFLATE's most is 1 032, and who sends that sends
 * nothing.
 */
const mostRatio = 256;

/** Of small bodies the ratio says nothing: bytes. */
const always = 16 << 10;

/** `too_large`: more comes out of it than may. `broken`: cut off, of another format, or with a wrong checksum. */
export type Inflated = Buffer | 'too_large' | 'broken';

/** In a thread of libuv's: the event loop goes on. Never rejects. */
export function inflate(body: Buffer, mostBytes: number): Promise<Inflated> {
  const maxOutputLength = Math.min(mostBytes, always + mostRatio * body.length);
  return new Promise((resolve) => {
    gunzip(body, { maxOutputLength }, (error, inflated) => {
      if (error === null) resolve(inflated);
      else resolve((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'too_large' : 'broken');
    });
  });
}

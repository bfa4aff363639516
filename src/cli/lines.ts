/** Lines of a stream of bytes, of any length and content, in bounded memory. */
import { longestAlert } from '../alert/alert.ts';

export interface Line {
  /** Counted from 0. */
  readonly n: number;
  /** Without its end (LF or CR LF); null: longer than any alert. Bytes that are no UTF-8 become U+FFFD. */
  readonly text: string | null;
}

/** UTF-8 has four bytes a character at most. */
const longestLine = 4 * longestAlert;

const lineFeed = 0x0a;

/** A byte order mark at the very beginning is no part of the first line. An empty end after the last LF is no line. */
export async function* linesOf(input: AsyncIterable<Buffer | string>): AsyncGenerator<Line> {
  let n = 0;
  let parts: Buffer[] = [];
  let length = 0;
  const end = (): Line => {
    const text = length > longestLine ? null : Buffer.concat(parts).toString('utf8').replace(/\r$/, '');
    const line = { n, text: n === 0 && text !== null ? text.replace(/^\ufeff/, '') : text };
    n++;
    parts = [];
    length = 0;
    return line;
  };
  const add = (part: Buffer): void => {
    length += part.length;
    if (length <= longestLine) parts.push(part);
    else parts = [];
  };
  for await (const chunk of input) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    let start = 0;
    for (let at = bytes.indexOf(lineFeed); at >= 0; at = bytes.indexOf(lineFeed, start)) {
      add(bytes.subarray(start, at));
      start = at + 1;
      yield end();
    }
    if (start < bytes.length) add(bytes.subarray(start));
  }
  if (length > 0) yield end();
}

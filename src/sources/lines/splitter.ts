/**
 * Lines of bytes that come in pieces, in bounded memory: an over-long line is thrown away as it comes.
 *
 * LF ends a line, and so does NUL. JSON has no NUL, but a log has: a writer without O_APPEND leaves a hole of them where the
 * file was truncated under it, and a crash of the machine leaves them where data never reached the disk. What stands before
 * and behind such a hole are lines of their own.
 */
import { joined } from '../pieces.ts';

const lineFeed = 0x0a;
const nul = 0x00;

const nothing = Buffer.alloc(0);

export interface SplitterOptions {
  /** Bytes of a line without its end. */
  readonly longest: number;
  /** False: what comes is not the beginning of a file, so a byte order mark is none. */
  readonly isBeginning?: boolean;
}

export class LineSplitter {
  readonly #longest: number;
  #isBeginning: boolean;
  #held: Buffer = nothing;
  #pending = 0;

  constructor({ longest, isBeginning = true }: SplitterOptions) {
    this.#longest = longest;
    this.#isBeginning = isBeginning;
  }

  /** Bytes since the end of the last line. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * The lines that end in this piece, without their ends (LF, CR LF, NUL): text, in which bytes that are no UTF-8 are U+FFFD;
   * null for an over-long one. Lines of white space alone are left out. To be iterated to the end; the piece may be used
   * again afterwards.
   */
  *split(bytes: Buffer): Generator<string | null> {
    let start = 0;
    let nextNul = bytes.indexOf(nul);
    for (let at = bytes.indexOf(lineFeed); ; ) {
      const end = nextNul !== -1 && (at === -1 || nextNul < at) ? nextNul : at;
      if (end === -1) break;
      const line = this.#end(bytes.subarray(start, end));
      start = end + 1;
      if (line !== '') yield line;
      if (end === nextNul) {
        // A hole has as many as the file was long.
        while (bytes[start] === nul) start++;
        nextNul = bytes.indexOf(nul, start);
      } else {
        at = bytes.indexOf(lineFeed, start);
      }
    }
    if (start < bytes.length) this.#keep(bytes.subarray(start));
  }

  /** What is left when nothing more comes: a last line without an end; '' when there is none. */
  end(): string | null {
    return this.#end(Buffer.alloc(0));
  }

  #keep(part: Buffer): void {
    const before = this.#pending;
    this.#pending += part.length;
    // One more for a CR, which is known to be no part of the line when its LF has come.
    const most = this.#longest + 1;
    this.#held = this.#pending <= most ? joined(this.#held, before, part, most) : nothing;
  }

  #end(last: Buffer): string | null {
    const length = this.#pending + last.length;
    const begin = this.#held.subarray(0, this.#pending);
    const isBeginning = this.#isBeginning;
    this.#held = nothing;
    this.#pending = 0;
    if (length > 0) this.#isBeginning = false;
    if (length > this.#longest + 1) return null;
    const bytes = begin.length === 0 ? last : Buffer.concat([begin, last]);
    const end = bytes.at(-1) === 0x0d ? length - 1 : length;
    if (end > this.#longest) return null;
    const text = bytes.toString('utf8', 0, end);
    const line = isBeginning ? text.replace(/^\ufeff/, '') : text;
    return /\S/.test(line) ? line : '';
  }
}

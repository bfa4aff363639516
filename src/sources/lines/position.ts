/**
 * How far followed files were read, kept in the state directory: one file for each path that is followed.
 *
 * What is kept is always behind the truth: everything before a position is decided and durable, so that after any end, kill -9
 * and a lost machine included, each alert comes at least once. An alert that comes twice changes nothing: it names the same
 * offender, and one older than `max_alert_age` is refused. So where a position can not be believed, reading starts at the
 * beginning, never at the end.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Where the reading of one file stands. A path has several while renamed ones are read to their ends. */
export interface Position {
  readonly dev: string;
  readonly ino: string;
  /** Bytes; the end of a line. */
  readonly offset: number;
  /** The last bytes before it, by which a file is known again: so many, and their SHA-256. */
  readonly tailLength: number;
  readonly tailHash: string;
}

export interface KeptPositions {
  /** The oldest first. */
  readonly positions: readonly Position[];
  /** When they were written, ns since 1970. */
  readonly atNs: bigint;
}

/** `bad`: there is something, and it is none of ours, or half of it. */
export type ReadPositions = KeptPositions | 'none' | 'bad';

const version = 1;
const largest = 64 << 10;

export const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export class PositionFile {
  readonly path: string;
  readonly #stateDir: string;
  readonly #of: string;

  /** `of`: the path that is followed. */
  constructor(stateDir: string, of: string) {
    this.#stateDir = stateDir;
    this.#of = of;
    this.path = join(stateDir, `lines-${hashOf(Buffer.from(of)).slice(0, 16)}.json`);
  }

  /** Never rejects. */
  async read(): Promise<ReadPositions> {
    try {
      const handle = await open(this.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      try {
        const { size, mtimeNs } = await handle.stat({ bigint: true });
        const positions = size > largest ? 'bad' : this.#parse(await handle.readFile('utf8'));
        return positions === 'bad' ? 'bad' : { positions, atNs: mtimeNs };
      } finally {
        await handle.close();
      }
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'bad';
    }
  }

  /** Written anew beside the old one, then renamed, each on the disk before the next. Rejects as the system calls do. */
  async write(positions: readonly Position[]): Promise<void> {
    const fresh = `${this.path}.new`;
    // Left by somebody who was killed, perhaps another user's.
    await rm(fresh, { force: true });
    const handle = await open(
      fresh,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o640,
    );
    try {
      await handle.writeFile(`${JSON.stringify({ version, path: this.#of, files: positions.map(toJson) })}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(fresh, this.path);
    const folder = await open(this.#stateDir, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  #parse(text: string): readonly Position[] | 'bad' {
    const kept = JSON.parse(text) as unknown;
    if (!isRecord(kept) || kept.version !== version || kept.path !== this.#of || !Array.isArray(kept.files))
      return 'bad';
    const positions = kept.files.map(fromJson);
    return positions.every((position) => position !== null) ? positions : 'bad';
  }
}

function toJson({ dev, ino, offset, tailLength, tailHash }: Position): Readonly<Record<string, unknown>> {
  return { dev, ino, offset, tail_bytes: tailLength, tail_sha256: tailHash };
}

function fromJson(value: unknown): Position | null {
  if (!isRecord(value)) return null;
  const { dev, ino, offset, tail_bytes: tailLength, tail_sha256: tailHash } = value;
  if (typeof dev !== 'string' || typeof ino !== 'string' || typeof tailHash !== 'string') return null;
  if (!isCount(offset) || !isCount(tailLength) || tailLength > offset || tailLength > largest) return null;
  return { dev, ino, offset, tailLength, tailHash };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

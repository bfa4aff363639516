/**
 * How far followed files were read, kept in the state directory: one file for each path that is followed.
 *
 * What is kept is always behind the truth: everything before a position is decided and durable, so that after any end, kill -9
 * and a lost machine included, each alert comes at least once. An alert that comes twice changes nothing: it names the same
 * offender, and one older than `max_alert_age` is refused. So where a position can not be believed, reading starts at the
 * beginning, never at the end.
 */
import { createHash } from 'node:crypto';
import { KeptFile } from '../kept-file.ts';

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
  readonly #file: KeptFile;
  readonly #of: string;

  /** `of`: the path that is followed. */
  constructor(stateDir: string, of: string) {
    this.#of = of;
    this.#file = new KeptFile(stateDir, `lines-${hashOf(Buffer.from(of)).slice(0, 16)}.json`);
  }

  get path(): string {
    return this.#file.path;
  }

  /** Never rejects. */
  async read(): Promise<ReadPositions> {
    const kept = await this.#file.read();
    if (typeof kept === 'string') return kept;
    const positions = this.#parse(kept.text);
    return positions === 'bad' ? 'bad' : { positions, atNs: readMoment(kept.text) ?? kept.atNs };
  }

  /** `atNs`: when it was so, ns since 1970; later it is written, for what is durable is waited for. Rejects as the system calls do. */
  async write(positions: readonly Position[], atNs: bigint | null = null): Promise<void> {
    const at = atNs === null ? {} : { at_ns: String(atNs) };
    await this.#file.write(`${JSON.stringify({ version, path: this.#of, ...at, files: positions.map(toJson) })}\n`);
  }

  #parse(text: string): readonly Position[] | 'bad' {
    let kept: unknown;
    try {
      kept = JSON.parse(text);
    } catch {
      return 'bad';
    }
    if (!isRecord(kept) || kept.version !== version || kept.path !== this.#of || !Array.isArray(kept.files))
      return 'bad';
    const positions = kept.files.map(fromJson);
    return positions.every((position) => position !== null) ? positions : 'bad';
  }
}

/** Null where it does not say: then it is when the file was written. */
function readMoment(text: string): bigint | null {
  const { at_ns: at } = JSON.parse(text) as Readonly<Record<string, unknown>>;
  return typeof at === 'string' && /^\d{1,19}$/.test(at) ? BigInt(at) : null;
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

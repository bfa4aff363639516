/**
 * `audit.jsonl` in the state directory: appended to by the daemon and by hands at once, rotated by size (`audit.jsonl.1` is the
 * newest of the old ones). Written outside the event loop, in order; what can not be written is lost, and said once.
 */
import {
  close,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  renameSync,
  write,
} from 'node:fs';
import { join } from 'node:path';
import { native } from '../kernel/native.ts';

export interface AuditFileOptions {
  readonly stateDir: string;
  /** Whose it is. Root and he make it; who may not write it is told so. */
  readonly service: { readonly uid: number; readonly gid: number };
  /** Bytes of one file, and how many there are with the one that is written to. */
  readonly maxBytes?: number;
  readonly files?: number;
  /** It can not be written: once, until it could again. `isDenied`: by this user, who is neither root nor the service. */
  readonly onTrouble?: (message: string, isDenied: boolean) => void;
}

export const auditFileName = 'audit.jsonl';

const defaultMaxBytes = 64 << 20;
const defaultFiles = 5;
/** The service's group reads. */
const fileMode = 0o640;
/** UTF-16 units in memory while the disk hangs; what comes then is lost. */
const longestBacklog = 8 << 20;
/** Of one write: a file grows beyond its bound by that at most. */
const longestBatch = 256 << 10;

const openFlags =
  constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

interface Opened {
  readonly descriptor: number;
  readonly identity: string;
}

export class AuditFile {
  readonly path: string;
  readonly #options: AuditFileOptions;
  readonly #maxBytes: number;
  readonly #files: number;
  #waiting: string[] = [];
  #waitingLength = 0;
  #opened: Opened | null = null;
  #writing: Promise<void> | null = null;
  #isInTrouble = false;

  constructor(options: AuditFileOptions) {
    this.#options = options;
    this.#maxBytes = options.maxBytes ?? defaultMaxBytes;
    this.#files = options.files ?? defaultFiles;
    this.path = join(options.stateDir, auditFileName);
  }

  /** A line without its end. Never throws. */
  append(line: string): void {
    if (this.#waitingLength + line.length > longestBacklog) {
      this.#trouble('the disk is too slow: lines are lost');
      return;
    }
    this.#waiting.push(`${line}\n`);
    this.#waitingLength += line.length + 1;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all that was appended so far is written or lost. */
  flush(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  async close(): Promise<void> {
    await this.flush();
    this.#letGo();
  }

  async #writeAll(): Promise<void> {
    // Not in the caller's turn: the lines of one action go in one write.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        const { descriptor } = this.#current();
        await writeWhole(descriptor, Buffer.from(batch));
        this.#isInTrouble = false;
      } catch (error) {
        this.#letGo();
        const { code } = error as NodeJS.ErrnoException;
        const isDenied = (code === 'EACCES' || code === 'ENOENT') && !this.#mayMake();
        this.#trouble(error instanceof Error ? error.message : String(error), isDenied);
      }
    }
    this.#writing = null;
  }

  #take(): string {
    let count = 0;
    let length = 0;
    while (count < this.#waiting.length && (count === 0 || length < longestBatch)) {
      length += this.#waiting[count++]?.length ?? 0;
    }
    this.#waitingLength -= length;
    return this.#waiting.splice(0, count).join('');
  }

  /** The file of that name now: another process may have rotated it. */
  #current(): Opened {
    let status = lstatSync(this.path, { throwIfNoEntry: false });
    if (status?.isFile() === true && status.size >= this.#maxBytes && this.#rotate()) status = undefined;
    if (status === undefined || this.#opened?.identity !== identityOf(status)) {
      this.#letGo();
      this.#opened = this.#open();
    }
    return this.#opened;
  }

  #open(): Opened {
    const { service } = this.#options;
    let descriptor: number;
    try {
      descriptor = openSync(this.path, openFlags);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || !this.#mayMake()) throw error;
      descriptor = this.#make(service);
    }
    const status = fstatSync(descriptor);
    // Somebody else's file under this name would be grown, or made to vanish by the rotation.
    if (!status.isFile() || status.nlink > 1 || (status.uid !== 0 && status.uid !== service.uid)) {
      closeSync(descriptor);
      throw new Error(`${this.path} is not falcodrop's own file`);
    }
    return { descriptor, identity: identityOf(status) };
  }

  #make({ uid, gid }: { readonly uid: number; readonly gid: number }): number {
    let descriptor: number;
    try {
      descriptor = openSync(this.path, openFlags | constants.O_CREAT | constants.O_EXCL, fileMode & 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      return openSync(this.path, openFlags); // another process was quicker
    }
    // The owner first, for whom it is made; then who may read.
    if (process.geteuid?.() === 0) fchownSync(descriptor, uid, gid);
    fchmodSync(descriptor, fileMode);
    return descriptor;
  }

  /** A member of the group would make one that the service can not write. */
  #mayMake(): boolean {
    const uid = process.geteuid?.();
    return uid === 0 || uid === this.#options.service.uid;
  }

  /**
   * True when this name is free now. The lock is on the file itself: who comes second finds another one there. Lines that are
   * on their way meanwhile go into the old one.
   */
  #rotate(): boolean {
    if (!this.#mayMake()) return false;
    const lock = native().tryLock(this.path, 'exclusive');
    if (lock === null) return false;
    try {
      const status = lstatSync(this.path);
      if (status.size < this.#maxBytes) return false;
      for (let n = this.#files - 1; n > 1; n--) move(`${this.path}.${n - 1}`, `${this.path}.${n}`);
      // With one file alone the old one is given up.
      move(this.path, `${this.path}.1`);
      return true;
    } finally {
      lock.release();
    }
  }

  #letGo(): void {
    const opened = this.#opened;
    this.#opened = null;
    if (opened !== null) close(opened.descriptor, () => undefined);
  }

  #trouble(message: string, isDenied = false): void {
    if (this.#isInTrouble) return;
    this.#isInTrouble = true;
    this.#options.onTrouble?.(`the audit file ${this.path} can not be written: ${message}`, isDenied);
  }
}

function identityOf({ dev, ino }: { readonly dev: number; readonly ino: number }): string {
  return `${dev}:${ino}`;
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** A short write (a full disk) is gone on with, and then fails. */
async function writeWhole(descriptor: number, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += await new Promise<number>((resolve, reject) => {
      write(descriptor, bytes, done, bytes.length - done, null, (error, written) => {
        if (error === null) resolve(written);
        else reject(error);
      });
    });
  }
}

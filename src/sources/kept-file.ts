/** A small text in the state directory that survives any end, kill -9 and a lost machine included: the old one or the new. */
import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

const defaultLargest = 64 << 10;

export interface KeptText {
  readonly text: string;
  /** When it was written, ns since 1970. */
  readonly atNs: bigint;
}

export class KeptFile {
  readonly path: string;
  readonly #stateDir: string;
  readonly #largest: number;

  /** `largest`: bytes that are read of it. */
  constructor(stateDir: string, name: string, largest = defaultLargest) {
    this.#stateDir = stateDir;
    this.#largest = largest;
    this.path = join(stateDir, name);
  }

  /** `bad`: there is something, and it is too large or no file of ours. Never rejects. */
  async read(): Promise<KeptText | 'none' | 'bad'> {
    try {
      const handle = await open(this.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      try {
        const { size, mtimeNs } = await handle.stat({ bigint: true });
        return size > this.#largest ? 'bad' : { text: await handle.readFile('utf8'), atNs: mtimeNs };
      } finally {
        await handle.close();
      }
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'bad';
    }
  }

  /** Written anew beside the old one, then renamed, each on the disk before the next. Rejects as the system calls do. */
  async write(text: string): Promise<void> {
    const fresh = `${this.path}.new`;
    // Left by somebody who was killed, perhaps another user's.
    await rm(fresh, { force: true });
    const handle = await open(
      fresh,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o640,
    );
    try {
      await handle.writeFile(text);
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
}

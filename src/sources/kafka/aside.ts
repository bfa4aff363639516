/**
 * Messages that are no alerts, kept for whoever wants to know who sends them: a line of JSON each, in plain ASCII, so that no
 * terminal is moved by it. Bounded: when the file is full it becomes the former one, and the former one goes.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { join } from 'node:path';

export interface KeptMessage {
  readonly source: string;
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly problem: string;
  /** Of the whole message; null: it has no value. */
  readonly bytes: number | null;
  /** Its beginning. */
  readonly text: string;
}

export const asideName = 'kafka-aside.jsonl';
export const formerAsideName = 'kafka-aside.1.jsonl';

/** Bytes of one file, of which there are two. */
export const asideBytes = 1 << 20;

/** UTF-16 units of a message; each takes up to six bytes. */
const longest = 4_096;

export class Aside {
  readonly path: string;
  readonly #former: string;
  #last: Promise<void> = Promise.resolve();

  constructor(stateDir: string) {
    this.path = join(stateDir, asideName);
    this.#former = join(stateDir, formerAsideName);
  }

  /** Resolves when it is on the disk. Rejects as the system calls do. */
  keep(message: KeptMessage, now: number): Promise<void> {
    const written = this.#last.then(() => this.#write(lineOf(message, now)));
    this.#last = written.catch(() => undefined);
    return written;
  }

  async #write(line: string): Promise<void> {
    let handle = await this.#open();
    try {
      const { size } = await handle.stat();
      if (size > 0 && size + line.length > asideBytes) {
        await rename(this.path, this.#former);
        await handle.close();
        handle = await this.#open();
      }
      await handle.appendFile(line);
      await handle.datasync();
    } finally {
      await handle.close();
    }
  }

  #open(): Promise<FileHandle> {
    const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
    return open(this.path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o640);
  }
}

function lineOf({ text, ...about }: KeptMessage, now: number): string {
  const json = JSON.stringify({ at: new Date(now).toISOString(), ...about, text: text.slice(0, longest) });
  const escaped = json.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return `${escaped}\n`;
}

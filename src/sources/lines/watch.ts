/** Wakes when something happens to a file, its name or its successors: inotify on the directories its name lies in. */
import { type FSWatcher, watch } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { isRotatedName } from './rotated.ts';

interface Watched {
  readonly watcher: FSWatcher;
  /** Of the directory: another one may take its name. */
  readonly key: string;
}

/** What inotify can not do (network file systems, no watches left) is left to polling. */
export class PathWatch {
  readonly #path: string;
  readonly #onEvent: () => void;
  readonly #watched = new Map<string, Watched>();

  constructor(path: string, onEvent: () => void) {
    this.#path = path;
    this.#onEvent = onEvent;
  }

  /** Watches the directories that are there now, those behind a symbolic link too. Null, or why it can not; never rejects. */
  async renew(): Promise<string | null> {
    const paths = new Set([this.#path, await realpath(this.#path).catch(() => this.#path)]);
    const folders = new Map([...paths].map((path) => [dirname(path), basename(path)]));
    let problem: string | null = null;
    for (const [folder, base] of folders) {
      const status = await stat(folder, { bigint: true }).catch(() => null);
      const key = status === null ? null : `${status.dev}:${status.ino}`;
      if (this.#watched.get(folder)?.key === key) continue;
      this.#drop(folder);
      if (key === null) continue;
      try {
        const watcher = watch(folder, { persistent: false }, (_event, name) => {
          if (name === null || name === base || isRotatedName(name, base)) this.#onEvent();
        });
        watcher.on('error', () => this.#drop(folder));
        this.#watched.set(folder, { watcher, key });
      } catch (error) {
        problem = (error as NodeJS.ErrnoException).code ?? String(error);
      }
    }
    for (const folder of this.#watched.keys()) if (!folders.has(folder)) this.#drop(folder);
    return problem;
  }

  close(): void {
    for (const folder of [...this.#watched.keys()]) this.#drop(folder);
  }

  #drop(folder: string): void {
    this.#watched.get(folder)?.watcher.close();
    this.#watched.delete(folder);
  }
}

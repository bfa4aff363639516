/**
 * How far the journal was read, kept in the state directory. Always behind the truth: everything up to the cursor is decided
 * and durable, so that after any end each alert comes at least once; one that comes twice changes nothing.
 */
import { KeptFile } from '../kept-file.ts';
import { isCursor } from './entry.ts';

const version = 1;

export class CursorFile {
  readonly #file: KeptFile;

  constructor(stateDir: string) {
    this.#file = new KeptFile(stateDir, 'journal.json');
  }

  get path(): string {
    return this.#file.path;
  }

  /** `bad`: there is something, and it is none of ours, or half of it. Never rejects. */
  async read(): Promise<{ readonly cursor: string } | 'none' | 'bad'> {
    const kept = await this.#file.read();
    if (typeof kept === 'string') return kept;
    try {
      const value = JSON.parse(kept.text) as { version?: unknown; cursor?: unknown } | null;
      const cursor = value?.version === version ? value.cursor : null;
      return isCursor(cursor) ? { cursor } : 'bad';
    } catch {
      return 'bad';
    }
  }

  /** Rejects as the system calls do. */
  async write(cursor: string): Promise<void> {
    await this.#file.write(`${JSON.stringify({ version, cursor })}\n`);
  }
}

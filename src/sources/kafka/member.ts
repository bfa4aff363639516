/**
 * As whom a topic's group knows us, kept over the death of the process. A member that was killed is one until the group has not
 * heard of it for 10 s; who comes back as the same gets its partitions at once, a stranger would wait for that.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { KeptFile } from '../kept-file.ts';

export interface Membership {
  readonly topic: string;
  readonly group: string;
}

const largest = 4_096;

export class Member {
  readonly #file: KeptFile;
  readonly #about: string;
  #kept: string | null = null;

  /** `source` is `kafka:NAME`. */
  constructor(stateDir: string, source: string, { topic, group }: Membership) {
    this.#file = new KeptFile(stateDir, `${source.replace(':', '-')}.member`, largest);
    // A copy of this directory on another machine, or after a reboot, is another member: two of one id would chase each other.
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    this.#about = JSON.stringify([topic, group, hostname(), bootId]);
  }

  /** Null: none, of another group or another boot, or unreadable. Never rejects. */
  async read(): Promise<string | null> {
    const kept = await this.#file.read();
    if (typeof kept === 'string') return null;
    const [about, id, ...rest] = kept.text.split('\n');
    if (about !== this.#about || id === undefined || !/^[\x21-\x7e]{1,512}$/.test(id) || rest.join('') !== '')
      return null;
    this.#kept = id;
    return id;
  }

  /** Rejects as the system calls do. */
  async keep(id: string): Promise<void> {
    if (id === this.#kept) return;
    await this.#file.write(`${this.#about}\n${id}\n`);
    this.#kept = id;
  }
}

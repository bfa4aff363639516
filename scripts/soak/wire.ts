/** The wire: a flood on one end of it, and what gets past XDP on the other, packet by packet. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { ended, type Lab } from '../../test/kernel/lab.ts';

const fixtures = join(import.meta.dirname, '../../test/e2e/fixtures');

/** The flood's sources that may be blocked, in the order of arrivals.c's slots. */
export const sources: readonly string[] = [
  ...Array.from({ length: 60 }, (_, i) => `10.99.0.${i}`),
  ...Array.from({ length: 60 }, (_, i) => (i === 0 ? '2001:db8:99::' : `2001:db8:99::${i.toString(16)}`)),
  '10.97.0.0/24',
];

/** The source that nobody may block. */
export const innocent = '10.98.0.1';

export interface Arrivals {
  /** What the receiver's socket had no room for. */
  readonly lost: number;
  /** By slot, ms since 1970; 0 = never. */
  readonly last: readonly number[];
  readonly count: readonly number[];
}

export interface Ends {
  readonly namespace: string;
  readonly name: string;
}

export class Wire {
  readonly #flood: ChildProcess;
  readonly #receiver: ChildProcess;
  readonly #answers: ((arrivals: Arrivals) => void)[] = [];
  readonly #lines: Interface[] = [];
  #report: { readonly sent: number; readonly seconds: number } | null = null;

  /** `packetsPerSecond` on average. */
  constructor(lab: Lab, from: Ends, to: Ends, packetsPerSecond: number) {
    for (const name of ['flood', 'arrivals']) {
      const source = join(fixtures, `${name}.c`);
      lab.exec(null, 'cc', '-O2', '-Wall', '-Werror', '-o', join(lab.directory, name), source);
    }
    this.#receiver = lab.spawn(to.namespace, [join(lab.directory, 'arrivals'), to.name, 'ask'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#read(this.#receiver, (line) => this.#answers.shift()?.(JSON.parse(line) as Arrivals));
    this.#flood = lab.spawn(from.namespace, [join(lab.directory, 'flood'), from.name, `${packetsPerSecond}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#read(this.#flood, (line) => {
      this.#report = JSON.parse(line);
    });
  }

  /** All that came until now. */
  arrivals(): Promise<Arrivals> {
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      this.#receiver.stdin?.write('\n');
    });
  }

  /** Ends the flood. Resolves to the packets that were sent a second. */
  async stop(): Promise<number> {
    this.#flood.kill('SIGTERM');
    await ended(this.#flood);
    this.#receiver.kill('SIGTERM');
    await ended(this.#receiver);
    for (const lines of this.#lines) lines.close();
    return this.#report === null ? 0 : Math.round(this.#report.sent / this.#report.seconds);
  }

  #read(child: ChildProcess, take: (line: string) => void): void {
    if (child.stdout === null) throw new Error('no pipe');
    const lines = createInterface(child.stdout);
    lines.on('line', (line) => {
      if (line.startsWith('{')) take(line);
    });
    this.#lines.push(lines);
  }
}

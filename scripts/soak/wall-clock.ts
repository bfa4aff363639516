/** A wall clock that can be stepped while programs run, for those alone that are started with its environment (wall-clock.c). */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from '../../test/kernel/lab.ts';

const hourMs = 3_600_000;
const tenYearsMs = 3_650 * 24 * hourMs;

/** What a clock that was set wrong is off by. Ten years back is before any of this was written. */
export const offsetsMs = [0, hourMs, -hourMs, tenYearsMs, -tenYearsMs] as const;

export class WallClock {
  readonly environment: Readonly<Record<string, string>>;
  readonly #file: string;
  #offsetMs = 0;

  constructor(lab: Lab) {
    this.#file = join(lab.directory, 'wall-clock');
    const library = join(lab.directory, 'wall-clock.so');
    const source = join(import.meta.dirname, 'wall-clock.c');
    lab.exec(null, 'cc', '-O2', '-Wall', '-Werror', '-shared', '-fPIC', '-o', library, source, '-ldl');
    closeSync(openSync(this.#file, 'w', 0o644));
    this.step(0);
    this.environment = { LD_PRELOAD: library, WALL_CLOCK: this.#file };
  }

  /** What it is ahead of the machine's. */
  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** ms since 1970, as the programs see it. */
  now(): number {
    return Date.now() + this.#offsetMs;
  }

  /** Seen at once by all. */
  step(offsetMs: number): void {
    const number = Buffer.alloc(8);
    // x86_64 and aarch64 are both little-endian.
    number.writeBigInt64LE(BigInt(offsetMs) * 1_000_000n);
    // In place, for it is mapped; eight bytes that lie in one word.
    const descriptor = openSync(this.#file, 'r+');
    try {
      writeSync(descriptor, number, 0, number.length, 0);
    } finally {
      closeSync(descriptor);
    }
    this.#offsetMs = offsetMs;
  }
}

/** Says what changes at once; what stays as it is, or goes to and fro, seldom. */
import type { Say } from './lines/feed.ts';

export interface Seldom {
  /** Lines a minute at most. */
  readonly most: number;
  /** The same is said again after so long. */
  readonly againMs: number;
}

const minuteMs = 60_000;

export class Sparing {
  readonly #say: Say;
  readonly #seldom: Seldom;
  readonly #now: () => number;
  #last = '';
  #lastAt = Number.NEGATIVE_INFINITY;
  #minuteAt = Number.NEGATIVE_INFINITY;
  #said = 0;
  #unsaid = 0;

  /** `now`: milliseconds of a clock that only goes on. */
  constructor(say: Say, seldom: Seldom, now: () => number = () => performance.now()) {
    this.#say = say;
    this.#seldom = seldom;
    this.#now = now;
  }

  /** `unsaid` counts what was left out since the line before. */
  say(level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>): void {
    const now = this.#now();
    const cause = `${message}: ${String(details.problem ?? '')}`;
    if (now - this.#minuteAt >= minuteMs) {
      this.#minuteAt = now;
      this.#said = 0;
    }
    const isOld = cause === this.#last && now - this.#lastAt < this.#seldom.againMs;
    if (isOld || this.#said >= this.#seldom.most) {
      this.#unsaid++;
      return;
    }
    this.#say(level, message, this.#unsaid === 0 ? details : { ...details, unsaid: this.#unsaid });
    this.#last = cause;
    this.#lastAt = now;
    this.#said++;
    this.#unsaid = 0;
  }
}

/** What happens again and again is said once a minute and cause, with how often: a sender may be wrong a thousand times a second. */
import type { Say } from '../lines/feed.ts';

const everyMs = 60_000;

export class Complaints {
  readonly #say: Say;
  readonly #now: () => number;
  readonly #said = new Map<string, { atMs: number; times: number; details: Readonly<Record<string, unknown>> }>();

  /** `now` in ms. */
  constructor(say: Say, now: () => number = () => performance.now()) {
    this.#say = say;
    this.#now = now;
  }

  /** `cause` is one of a few sentences of ours; details are those of the occurrence that is said. */
  about(cause: string, details: () => Readonly<Record<string, unknown>>): void {
    const now = this.#now();
    const last = this.#said.get(cause);
    if (last !== undefined && now - last.atMs < everyMs) {
      last.times++;
      last.details = details();
      return;
    }
    const told = details();
    this.#say('warn', cause, { ...told, times: 1 + (last?.times ?? 0) });
    this.#said.set(cause, { atMs: now, times: 0, details: told });
  }

  /** Says what was left out. */
  end(): void {
    for (const [cause, { times, details }] of this.#said) {
      if (times > 0) this.#say('warn', cause, { ...details, times });
    }
    this.#said.clear();
  }
}

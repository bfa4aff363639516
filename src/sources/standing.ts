/**
 * How a source is: what it does now, since when, how far behind it is, and what went wrong last. A source of any kind has one,
 * made by who wires it, and says of itself what only it can know.
 */
import type { Say } from './lines/feed.ts';

/**
 * `listening` for senders; `connecting`, `connected` to who has the alerts; `following` what grows; `reading` to an end, and
 * `ended` there; `waiting` for what is not there yet; `failed`: it can not take alerts now, and tries again where that helps.
 */
export type SourceState =
  | 'starting'
  | 'listening'
  | 'connecting'
  | 'connected'
  | 'following'
  | 'reading'
  | 'ended'
  | 'waiting'
  | 'failed';

/** What is there already and was not taken yet. */
export interface Lag {
  readonly amount: number;
  readonly unit: 'bytes' | 'alerts';
}

export interface Problem {
  readonly message: string;
  /** ms since 1970. */
  readonly atMs: number;
}

/** Characters of a problem that are kept. */
const longestProblem = 300;

export class Standing {
  readonly #now: () => number;
  #state: SourceState = 'starting';
  #sinceMs: number;
  #place: string | null = null;
  #problem: Problem | null = null;
  #lag: (() => Promise<Lag | null>) | null = null;

  /** `now`: ms since 1970. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.#sinceMs = now();
  }

  get state(): SourceState {
    return this.#state;
  }

  /** ms since 1970. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  /** Where alerts come in: an address, a path. */
  get place(): string | null {
    return this.#place;
  }

  /** The last one, though it may be over. */
  get problem(): Problem | null {
    return this.#problem;
  }

  is(state: SourceState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#sinceMs = this.#now();
  }

  at(place: string): void {
    this.#place = place;
  }

  trouble(message: string): void {
    this.#problem = { message: message.slice(0, longestProblem), atMs: this.#now() };
  }

  /** How far behind it is can be asked that way; null: that is not known now. */
  lagsBy(lag: () => Promise<Lag | null>): void {
    this.#lag = lag;
  }

  /** Null: the way has none, or it is not known. Never rejects. */
  async lag(): Promise<Lag | null> {
    try {
      return (await this.#lag?.()) ?? null;
    } catch {
      return null;
    }
  }

  /** The same words, of which warnings are kept. */
  hears(say: Say): Say {
    return (level, message, details) => {
      if (level === 'warn') {
        const { problem } = details;
        this.trouble(typeof problem === 'string' ? `${message}: ${problem}` : message);
      }
      say(level, message, details);
    };
  }
}

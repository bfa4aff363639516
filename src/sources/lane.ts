/**
 * What waits of one source: in the order it came, and by how little is lost without it. Taken from the front, whatever its
 * rank; shed from the end of the lowest rank.
 */
import type { Alert } from '../alert/alert.ts';
import type { Identity } from '../alert/identity.ts';
import type { SourceRef } from '../alert/source.ts';

export interface Arrival {
  readonly alert: Alert;
  /** As it came; to tell it by its hash. */
  readonly text: string;
  readonly source: SourceRef;
  /** `process.hrtime.bigint()` at its last byte. */
  readonly receivedNs: bigint;
}

/**
 * What is shed first: `redundant` (its offender is blocked already, or another alert of the same rule and offender waits or
 * was judged within the last second); then what accuses nobody; then another rule's alert of an offender who waits or was
 * judged within the last second; last a new offender, or the first alert of one that can have him blocked.
 */
export const ranks = { redundant: 0, nobody: 1, known: 2, fresh: 3 } as const;
export type Rank = (typeof ranks)[keyof typeof ranks];
export const lowestFirst: readonly Rank[] = [0, 1, 2, 3];

export interface Waiting {
  readonly arrival: Arrival;
  /** Null: it was not looked at yet, nor was whom it accuses. */
  readonly rank: Rank | null;
  /** Of all sources, in the order they came. */
  readonly nth: number;
  readonly identity: Identity | null;
  /** Null: it accuses nobody. */
  readonly accused: Accused | null;
}

export interface Accused {
  readonly offender: string;
  /** Whether its rule does the most that an alert may do. */
  readonly acts: boolean;
  /** Of rule, offender and `acts`. */
  readonly pair: string;
}

interface Line {
  alerts: (Waiting | undefined)[];
  /** Of the first in `alerts` that was not taken. */
  head: number;
  characters: number;
}

export class Lane {
  readonly #lines: readonly [Line, Line, Line, Line] = [newLine(), newLine(), newLine(), newLine()];
  #size = 0;
  #unranked = 0;
  #characters = 0;

  get size(): number {
    return this.#size;
  }

  get characters(): number {
    return this.#characters;
  }

  /** Alerts that were not looked at yet. */
  get unranked(): number {
    return this.#unranked;
  }

  sizeOf(rank: Rank): number {
    const { alerts, head } = this.#lines[rank];
    return alerts.length - head;
  }

  charactersOf(rank: Rank): number {
    return this.#lines[rank].characters;
  }

  push(waiting: Waiting): void {
    const line = this.#lines[lineOf(waiting)];
    if (waiting.rank === null) this.#unranked++;
    const { length } = waiting.arrival.text;
    line.alerts.push(waiting);
    line.characters += length;
    this.#characters += length;
    this.#size++;
  }

  /** The number of the first; infinite when there is none. */
  get first(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const { alerts, head } of this.#lines) first = Math.min(first, alerts[head]?.nth ?? first);
    return first;
  }

  shift(): Waiting | null {
    let first: Line | null = null;
    let nth = Number.POSITIVE_INFINITY;
    for (const line of this.#lines) {
      const candidate = line.alerts[line.head]?.nth ?? Number.POSITIVE_INFINITY;
      if (candidate >= nth) continue;
      nth = candidate;
      first = line;
    }
    const waiting = first?.alerts[first.head];
    if (first === null || waiting === undefined) return null;
    first.alerts[first.head++] = undefined;
    // Once for as many alerts as are still waiting, so what is moved stays in proportion to what was done.
    if (first.head * 2 >= first.alerts.length) {
      first.alerts = first.alerts.slice(first.head);
      first.head = 0;
    }
    this.#left(first, waiting);
    return waiting;
  }

  /** The last one of a rank, to be shed. */
  pop(rank: Rank): Waiting | null {
    const line = this.#lines[rank];
    const waiting = line.head < line.alerts.length ? line.alerts.pop() : undefined;
    if (waiting === undefined) return null;
    this.#left(line, waiting);
    return waiting;
  }

  #left(line: Line, { rank, arrival: { text } }: Waiting): void {
    if (rank === null) this.#unranked--;
    line.characters -= text.length;
    this.#characters -= text.length;
    this.#size--;
  }
}

/** What was not looked at may be the best. */
const lineOf = ({ rank }: Waiting): Rank => rank ?? ranks.fresh;

function newLine(): Line {
  return { alerts: [], head: 0, characters: 0 };
}

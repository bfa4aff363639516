/**
 * Identities of the alerts that were taken, so that each counts once. Memory is what it is from the start on: two tables of
 * 2 MiB, the newer filled and the older asked too. The older is thrown away when the newer is full or as old as an alert may
 * be, so the last {@link mostSeen} are known, and those of the last `keepMs` where no more came.
 */
import type { Identity } from '../alert/identity.ts';

/** At least so many are remembered, at most twice as many. */
export const mostSeen = 131_072;

/** Alerts that are older than the default of `max_alert_age` are refused anyway. */
export const keepSeenMs = 5 * 60_000;

/** Twice as many slots as identities: a probe or two finds one. */
const slots = mostSeen * 2;

export class Seen {
  readonly #keepMs: number;
  #newer = new Uint32Array(slots * 2);
  #older = new Uint32Array(slots * 2);
  #count = 0;
  #sinceMs = 0;

  constructor(keepMs = keepSeenMs) {
    this.#keepMs = keepMs;
  }

  has(identity: Identity): boolean {
    return find(this.#newer, identity) >= 0 || find(this.#older, identity) >= 0;
  }

  /** `nowMs` of any clock that only goes forward. */
  add({ a, b }: Identity, nowMs: number): void {
    if (this.#count >= mostSeen || (this.#count > 0 && nowMs - this.#sinceMs >= this.#keepMs)) this.#turn();
    if (this.#count === 0) this.#sinceMs = nowMs;
    const table = this.#newer;
    let at = slotOf(a);
    while (table[at] !== 0 || table[at + 1] !== 0) at = (at + 2) % table.length;
    table[at] = a;
    table[at + 1] = word(a, b);
    this.#count++;
  }

  /** It was not decided after all: when it comes again it is new. */
  forget(identity: Identity): void {
    for (const table of [this.#newer, this.#older]) {
      const at = find(table, identity);
      if (at < 0) continue;
      table[at] = 0;
      table[at + 1] = forgotten;
    }
  }

  #turn(): void {
    const oldest = this.#older;
    this.#older = this.#newer;
    this.#newer = oldest.fill(0);
    this.#count = 0;
  }
}

/** In the second word, beside 0 in the first: a slot that was used, so that what lies behind it is still found. */
const forgotten = 1;

/** 0 and 0 is an empty slot, 0 and 1 a forgotten one. */
function word(a: number, b: number): number {
  return a === 0 && b <= forgotten ? 2 : b;
}

function slotOf(a: number): number {
  return (a % slots) * 2;
}

/** -1: not there. */
function find(table: Uint32Array, { a, b }: Identity): number {
  const second = word(a, b);
  for (let at = slotOf(a); ; at = (at + 2) % table.length) {
    if (table[at] === a && table[at + 1] === second) return at;
    if (table[at] === 0 && table[at + 1] === 0) return -1;
  }
}

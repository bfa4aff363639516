/**
 * The wishes of a file of any length, in some 60 bytes each: sorted by target and owner, of the same claim in the same mode the
 * longest alone.
 */
import type { Prefix } from '../address/prefix.ts';
import type { Owner } from '../blocklist/claims.ts';
import { keyOfTarget, targetOfKey } from '../blocklist/ledger/key.ts';

/** What lines have in common. */
export interface Group {
  readonly owner: Owner;
  readonly mode: 'enforce' | 'monitor';
  readonly reason: string | null;
}

export interface TableWish {
  readonly target: Prefix;
  /** Bytes of the ledger's key as characters: compares as the ledger sorts. */
  readonly key: string;
  readonly group: Group;
  /** ms since 1970; Infinity = for ever, NaN = the command's own duration. */
  readonly endMs: number;
}

/** Groups have 16 bits; reasons beyond them are left out. */
const mostGroups = 0xffff;

export class WishTable {
  readonly #keys: string[] = [];
  #ends = new Float64Array(1024);
  #groupOf = new Uint16Array(1024);
  readonly #groups: Group[] = [];
  readonly #groupIds = new Map<string, number>();
  /** For the order: NaN is this. */
  readonly #defaultEndMs: number;
  /** Lines whose reason was left out. */
  reasonsLeftOut = 0;

  constructor(defaultEndMs: number) {
    this.#defaultEndMs = defaultEndMs;
  }

  get size(): number {
    return this.#keys.length;
  }

  add(target: Prefix, group: Group, endMs: number): void {
    const n = this.#keys.length;
    if (n === this.#ends.length) {
      this.#ends = grown(this.#ends, new Float64Array(2 * n));
      this.#groupOf = grown(this.#groupOf, new Uint16Array(2 * n));
    }
    this.#keys.push(keyOfTarget(target).toString('latin1'));
    this.#ends[n] = endMs;
    this.#groupOf[n] = this.#groupId(group);
  }

  /** By target, owner and mode, each claim's mode once. The rows' numbers, for {@link at}. */
  sorted(): Uint32Array {
    const rows = Uint32Array.from(this.#keys, (_, n) => n);
    const rank = this.#ranks();
    const keys = this.#keys;
    const order = (a: number, b: number): number => {
      const keyA = keys[a] ?? '';
      const keyB = keys[b] ?? '';
      if (keyA !== keyB) return keyA < keyB ? -1 : 1;
      return this.#rankOf(rank, a) - this.#rankOf(rank, b) || compare(this.#end(b), this.#end(a)) || a - b;
    };
    rows.sort(order);
    let kept = 0;
    for (const row of rows) {
      const before = rows[kept - 1];
      const isAgain =
        kept > 0 &&
        before !== undefined &&
        keys[before] === keys[row] &&
        this.#rankOf(rank, before) === this.#rankOf(rank, row);
      if (!isAgain) rows[kept++] = row;
    }
    return rows.subarray(0, kept);
  }

  at(row: number): TableWish {
    const key = this.#keys[row] ?? '';
    const group = this.#groups[this.#groupOf[row] ?? 0];
    if (group === undefined) throw new RangeError(`there is no row ${row}`);
    return { target: targetOfKey(Buffer.from(key, 'latin1')), key, group, endMs: this.#ends[row] ?? Number.NaN };
  }

  /** Ends compared, with the command's own duration where a line says none. */
  #end(row: number): number {
    const end = this.#ends[row] ?? Number.NaN;
    return Number.isNaN(end) ? this.#defaultEndMs : end;
  }

  #groupId(group: Group): number {
    const name = `${group.owner} ${group.mode} ${group.reason ?? ''}`;
    const known = this.#groupIds.get(name);
    if (known !== undefined) return known;
    if (this.#groups.length >= mostGroups && group.reason !== null) {
      this.reasonsLeftOut++;
      return this.#groupId({ ...group, reason: null });
    }
    // Owners are as many as somebody made up; the last group takes what is beyond all bounds.
    if (this.#groups.length > mostGroups) throw new RangeError(`more than ${mostGroups} owners and reasons`);
    const id = this.#groups.length;
    this.#groups.push(group);
    this.#groupIds.set(name, id);
    return id;
  }

  /** The order of owner and mode, by group. */
  #ranks(): Uint16Array {
    const names = this.#groups.map(({ owner, mode }) => `${owner} ${mode}`);
    const order = new Map([...new Set(names)].sort().map((name, index) => [name, index]));
    return Uint16Array.from(names, (name) => order.get(name) ?? 0);
  }

  #rankOf(ranks: Uint16Array, row: number): number {
    return ranks[this.#groupOf[row] ?? 0] ?? 0;
  }
}

function grown<T extends Float64Array | Uint16Array>(from: T, to: T): T {
  to.set(from);
  return to;
}

/** Infinity is as far as infinity. */
const compare = (a: number, b: number): number => (a === b ? 0 : a < b ? -1 : 1);

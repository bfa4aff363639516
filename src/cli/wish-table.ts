/**
 * The wishes of a file of any length, in some 30 bytes each: sorted by target and owner, of the same claim in the same mode the
 * longest alone.
 */
import type { Prefix } from '../address/prefix.ts';
import type { Owner } from '../blocklist/claims.ts';
import { keyOfTarget } from '../blocklist/ledger/key.ts';
import { TargetList } from '../blocklist/target-list.ts';

/** What lines have in common. */
export interface Group {
  readonly owner: Owner;
  readonly mode: 'enforce' | 'monitor';
  /** Canonical text; '' = every port. */
  readonly ports: string;
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
  readonly #targets = new TargetList();
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
    return this.#targets.length;
  }

  add(target: Prefix, group: Group, endMs: number): void {
    const n = this.#targets.length;
    if (n === this.#ends.length) {
      this.#ends = grown(this.#ends, new Float64Array(2 * n));
      this.#groupOf = grown(this.#groupOf, new Uint16Array(2 * n));
    }
    this.#targets.push(target);
    this.#ends[n] = endMs;
    this.#groupOf[n] = this.#groupId(group);
  }

  /** By target, owner, ports and mode, each claim's mode once. The rows' numbers, for {@link at}. */
  sorted(): Uint32Array {
    const targets = this.#targets;
    const rows = targets.order();
    const rank = this.#ranks();
    const order = (a: number, b: number): number =>
      this.#rankOf(rank, a) - this.#rankOf(rank, b) || compare(this.#end(b), this.#end(a)) || a - b;
    let kept = 0;
    for (let first = 0, end = 1; first < rows.length; first = end++) {
      while (end < rows.length && targets.isSame(rows[first] ?? 0, rows[end] ?? 0)) end++;
      // All rows of one target.
      const own = rows.subarray(first, end);
      if (own.length > 1) own.sort(order);
      let last = -1;
      for (const row of own) {
        const of = this.#rankOf(rank, row);
        if (of !== last) rows[kept++] = row;
        last = of;
      }
    }
    return rows.subarray(0, kept);
  }

  at(row: number): TableWish {
    const group = this.#groups[this.#groupOf[row] ?? 0];
    if (group === undefined) throw new RangeError(`there is no row ${row}`);
    const target = this.#targets.at(row);
    const key = keyOfTarget(target).toString('latin1');
    return { target, key, group, endMs: this.#ends[row] ?? Number.NaN };
  }

  /** Ends compared, with the command's own duration where a line says none. */
  #end(row: number): number {
    const end = this.#ends[row] ?? Number.NaN;
    return Number.isNaN(end) ? this.#defaultEndMs : end;
  }

  #groupId(group: Group): number {
    const name = `${group.owner} ${group.ports} ${group.mode} ${group.reason ?? ''}`;
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

  /** The order of owner, ports and mode, by group. */
  #ranks(): Uint16Array {
    const names = this.#groups.map(({ owner, ports, mode }) => `${owner} ${ports} ${mode}`);
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

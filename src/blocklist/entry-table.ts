/** What the maps hold, read at once and kept in some 65 bytes an entry, by address. */
import { covers, type Prefix } from '../address/prefix.ts';
import type { BlockValue } from '../kernel/layout.ts';
import { blockMapNames, type PinnedSet } from '../kernel/set.ts';
import { type Entry, entryOf } from './entry.ts';
import { TargetList } from './target-list.ts';

const columns = ['dropUntil', 'countUntil', 'packets', 'bytes', 'lastSeen'] as const;

export class EntryTable {
  readonly #now: bigint;
  readonly #targets = new TargetList();
  /** Row by row, as {@link columns} says. */
  #numbers = new BigUint64Array(1024 * columns.length);
  #owners = new Uint8Array(1024);
  #scopes = new Uint16Array(1024);
  readonly #order: Uint32Array;

  /** Live ones, those that lie in `within` alone. A map that changes while it is read may show an entry twice: once is kept. */
  constructor(set: PinnedSet, within?: Prefix) {
    this.#now = set.now();
    for (const name of blockMapNames) {
      for (const { target, value } of set.entries(name)) {
        const isLive = this.#now < value.dropUntil || this.#now < value.countUntil;
        if (isLive && (within === undefined || covers(within, target))) this.#add(target, value);
      }
    }
    const order = this.#targets.order();
    let kept = 0;
    for (const row of order) {
      const before = order[kept - 1];
      if (before === undefined || !this.#targets.isSame(before, row)) order[kept++] = row;
    }
    this.#order = order.subarray(0, kept);
  }

  get length(): number {
    return this.#order.length;
  }

  /** By rank. RangeError beyond the end. */
  at(rank: number): Entry {
    const row = this.#order[rank] ?? -1;
    const target = this.#targets.at(row);
    const number = (column: number): bigint => this.#numbers[row * columns.length + column] ?? 0n;
    const value: BlockValue = {
      dropUntil: number(0),
      countUntil: number(1),
      packets: number(2),
      bytes: number(3),
      lastSeen: number(4),
      action: 0,
      owners: this.#owners[row] ?? 0,
      scope: this.#scopes[row] ?? 0,
      prefixLength: target.length,
    };
    return entryOf(target, value, this.#now);
  }

  #add(target: Prefix, value: BlockValue): void {
    const row = this.#targets.length;
    if (row === this.#owners.length) {
      const [numbers, owners] = [new BigUint64Array(2 * this.#numbers.length), new Uint8Array(2 * row)];
      const scopes = new Uint16Array(2 * row);
      scopes.set(this.#scopes);
      this.#scopes = scopes;
      numbers.set(this.#numbers);
      owners.set(this.#owners);
      this.#numbers = numbers;
      this.#owners = owners;
    }
    this.#targets.push(target);
    for (const [column, name] of columns.entries()) this.#numbers[row * columns.length + column] = value[name];
    this.#owners[row] = value.owners;
    this.#scopes[row] = value.scope;
  }
}

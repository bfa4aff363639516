/**
 * A host as it was just after its first attach, for the many cases that want one: the same pins emptied and the state directory
 * copied back, which takes some milliseconds, instead of a purge and an attach, which load and verify programs for most of a
 * second. What a case has changed beyond that is seen, and then it is attached anew after all.
 */
import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { u32 } from '../../src/kernel/attach.ts';
import { type BpfMap, native } from '../../src/kernel/native.ts';
import type { Lab } from '../kernel/lab.ts';

export interface Host {
  readonly lab: Lab;
  readonly namespace: string;
  readonly stateDir: string;
  /** Purges what is there, and attaches; the state directory is new then. */
  readonly attachAnew: () => void;
}

interface First {
  readonly pins: string;
  /** Elements of the arrays, by name. */
  readonly arrays: ReadonlyMap<string, readonly Buffer[]>;
}

const arrays = ['settings', 'interfaces', 'counters', 'hints'] as const;
const entries = [
  'blocked_v4',
  'blocked_v6',
  'blocked_cidr_v4',
  'blocked_cidr_v6',
  'allowed_cidr_v4',
  'allowed_cidr_v6',
];

export function makeAfresh({ lab, namespace, stateDir, attachAnew }: Host): () => void {
  const kept = `${stateDir}-as-attached`;
  let first: First | null = null;
  return () => {
    if (first !== null && pinsOf(lab, namespace) === first.pins) {
      for (const name of entries) withMap(lab, name, removeAll);
      for (const [name, elements] of first.arrays) {
        withMap(lab, name, (map) => {
          for (const [index, element] of elements.entries()) map.update(u32(index), element);
        });
      }
    } else {
      attachAnew();
      lab.exec(null, 'rm', '-rf', kept);
      lab.exec(null, 'cp', '-a', stateDir, kept);
      first = {
        pins: pinsOf(lab, namespace),
        arrays: new Map(arrays.map((name) => [name, withMap(lab, name, elementsOf)])),
      };
    }
    lab.exec(null, 'rm', '-rf', stateDir);
    lab.exec(null, 'cp', '-a', kept, stateDir);
  };
}

function withMap<T>(lab: Lab, name: string, work: (map: BpfMap) => T): T {
  const map = native().openMap(join(lab.pinDir, 'current', name));
  try {
    return work(map);
  } finally {
    map.close();
  }
}

function removeAll(map: BpfMap): void {
  for (let key = map.nextKey(null); key !== null; key = map.nextKey(null)) map.delete(key);
}

function elementsOf(map: BpfMap): Buffer[] {
  return Array.from({ length: map.info.maxEntries }, (_, index) => map.lookup(u32(index)) ?? Buffer.alloc(0));
}

/** Every pin, with its owner, its mode and the map behind it, and the programs in the hooks. */
function pinsOf(lab: Lab, namespace: string): string {
  if (!existsSync(join(lab.pinDir, 'current'))) return 'none';
  const set = readlinkSync(join(lab.pinDir, 'current'));
  const below = ['.', 'links', 'lock', set].flatMap((place) => [
    place,
    ...readdirSync(join(lab.pinDir, place)).map((name) => join(place, name)),
  ]);
  const pins = below.map((path) => {
    const { mode, uid, gid } = statSync(join(lab.pinDir, path));
    return `${path} ${mode} ${uid} ${gid} ${mapAt(lab, set, path)}`;
  });
  return [...pins, hooksIn(lab, namespace)].join('\n');
}

/** Its id, and whether it can still be changed; '' for what is no map. */
function mapAt(lab: Lab, set: string, path: string): string {
  if (!path.startsWith(`${set}/`) || basename(path).startsWith('change')) return '';
  return withMap(lab, basename(path), ({ info: { id, frozen } }) => `${id} ${frozen}`);
}

/** Name, index, program and addresses of every interface there. */
function hooksIn(lab: Lab, namespace: string): string {
  interface Interface {
    readonly ifindex: number;
    readonly ifname: string;
    readonly xdp?: unknown;
    readonly addr_info: unknown;
  }
  const all = JSON.parse(lab.exec(null, 'ip', '-n', namespace, '-d', '-j', 'address', 'show')) as Interface[];
  return JSON.stringify(all.map(({ ifindex, ifname, xdp, addr_info }) => [ifindex, ifname, xdp, addr_info]));
}

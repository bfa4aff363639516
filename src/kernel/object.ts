/** The compiled BPF object: bytes beside the bundle, one loaded instance an interface. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { FalcodropError } from '../errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, isNativeError, native } from './native.ts';

/** BPF_F_XDP_HAS_FRAGS, kernel 5.18. */
const hasFragsFlag = 1 << 5;

const places = ['./falcodrop.bpf.o', '../../dist/falcodrop.bpf.o'];

let bytes: Buffer | undefined;

export function objectBytes(): Buffer {
  if (bytes !== undefined) return bytes;
  for (const place of places) {
    const path = new URL(place, import.meta.url);
    if (!existsSync(path)) continue;
    bytes = readFileSync(path);
    return bytes;
  }
  throw new FalcodropError('addon_missing', 'falcodrop.bpf.o is not there', 'run "make build"');
}

/** SHA-256 of the object, hexadecimal. */
export function objectDigest(): string {
  return createHash('sha256').update(objectBytes()).digest('hex');
}

export interface Sizes {
  /** Entries of blocked_v4 and of blocked_v6, each. */
  readonly addresses: number;
  /** Entries of blocked_cidr_v4 and of blocked_cidr_v6, each. */
  readonly prefixes: number;
}

const addressMaps = ['blocked_v4', 'blocked_v6'];
const prefixMaps = ['blocked_cidr_v4', 'blocked_cidr_v6'];

/** Names of the maps that are pinned: all but the compiler's own (.rodata). */
export function pinnedMapNames(object: BpfObject): string[] {
  return object
    .maps()
    .map((map) => map.name)
    .filter((name) => !name.includes('.'));
}

/** The object with new maps of these sizes, loaded once: maps and the change programs to pin. The XDP program is not loaded. */
export function loadSet(sizes: Partial<Sizes>): BpfObject {
  const object = native().openObject(objectBytes(), 'falcodrop');
  try {
    for (const [names, size] of [
      [addressMaps, sizes.addresses],
      [prefixMaps, sizes.prefixes],
    ] as const) {
      if (size !== undefined) for (const name of names) object.setMaxEntries(name, size);
    }
    object.setAutoload('falcodrop', false);
    load(object);
    return object;
  } catch (error) {
    object.close();
    throw error;
  }
}

/**
 * One instance of the XDP program for one interface, on existing maps. With multi-buffer support where the kernel has it
 * (`xdp.frags`: jumbo frames on veth and others), else without.
 */
export function loadInstance(map: (name: string) => BpfMap, slot: number): BpfProgram {
  try {
    return instance(map, slot, true);
  } catch (error) {
    if (!(error instanceof FalcodropError) || error.code !== 'program_rejected') throw error;
    return instance(map, slot, false);
  }
}

function instance(map: (name: string) => BpfMap, slot: number, frags: boolean): BpfProgram {
  const object = native().openObject(objectBytes(), 'falcodrop');
  try {
    for (const name of pinnedMapNames(object)) object.reuseMap(name, map(name));
    object.setAutoload('change', false);
    object.setAutoload('change_cidr', false);
    const word = Buffer.alloc(4);
    word.writeUInt32LE(slot);
    object.setRodata('slot', word);
    object.setRodata('has_frags', Buffer.from([frags ? 1 : 0]));
    if (frags) object.addProgramFlags('falcodrop', hasFragsFlag);
    load(object);
    return object.program('falcodrop');
  } finally {
    object.close();
  }
}

function load(object: BpfObject): void {
  try {
    object.load();
  } catch (error) {
    if (!isNativeError(error)) throw error;
    if (error.code === 'EPERM' || error.code === 'EACCES') {
      const verifier = error.code === 'EACCES' && error.log !== undefined && error.log !== '';
      if (!verifier) {
        throw new FalcodropError(
          'not_permitted',
          'loading BPF programs is root’s part',
          'run "falcodrop attach" as root',
          error,
        );
      }
    }
    const line = error.log?.trim().split('\n').at(-1) ?? '';
    throw new FalcodropError(
      'program_rejected',
      `the kernel refused the BPF object: ${error.message}${line === '' ? '' : ` (${line})`}`,
      'Linux 5.15 or newer is needed; the verifier’s log says more: falcodrop --debug attach',
      error,
    );
  }
}

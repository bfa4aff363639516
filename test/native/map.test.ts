import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BpfMap, type BpfObject, native } from '../../src/kernel/native.ts';
import { json, type Lab, openLab, refusal, u32 } from './lab.ts';

let lab: Lab;
let object: BpfObject;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

const NOEXIST = 1;
const EXIST = 2;

function value(byte: number): Uint8Array {
  return new Uint8Array(16).fill(byte);
}

/** A fresh set of maps. */
function fresh(name: string): BpfMap {
  object = lab.loaded();
  return object.map(name);
}

let pins = 0;
function pinned(map: BpfMap): string {
  const path = `${lab.bpffs()}/map${pins++}`;
  map.pin(path);
  return path;
}

/** Contents as bpftool sees them: hexadecimal keys and values. */
function dumped(map: BpfMap): Map<string, string> {
  const entries = json<{ key: string[]; value: string[] }[]>('bpftool', '-j', 'map', 'dump', 'pinned', pinned(map));
  const hex = (bytes: string[]) => bytes.map((byte) => byte.slice(2)).join('');
  return new Map(entries.map((entry) => [hex(entry.key), hex(entry.value)]));
}

/** The same by the addon's batch calls. */
function read(map: BpfMap, limit: number): Map<string, string> {
  const { keySize } = map.info;
  const found = new Map<string, string>();
  let cursor: Buffer | null = null;
  do {
    const batch = map.lookupBatch(cursor, limit);
    const valueLength = batch.count === 0 ? 0 : batch.values.length / batch.count;
    for (let i = 0; i < batch.count; i++)
      found.set(
        batch.keys.subarray(i * keySize, (i + 1) * keySize).toString('hex'),
        batch.values.subarray(i * valueLength, (i + 1) * valueLength).toString('hex'),
      );
    cursor = batch.cursor;
  } while (cursor !== null);
  return found;
}

describe('hash', () => {
  test('one element: set with flags, get, delete', () => {
    const map = fresh('hash');
    expect(map.lookup(u32(1))).toBeNull();
    expect(refusal(() => map.update(u32(1), value(1), EXIST))).toMatchObject({ operation: 'update', code: 'ENOENT' });
    map.update(u32(1), value(1), NOEXIST);
    expect(refusal(() => map.update(u32(1), value(2), NOEXIST)).code).toBe('EEXIST');
    map.update(u32(1), value(3));
    expect(map.lookup(u32(1))).toEqual(Buffer.from(value(3)));
    expect(map.delete(u32(1))).toBe(true);
    expect(map.delete(u32(1))).toBe(false);
    expect(refusal(() => map.update(u32(1), value(1), 1 << 20)).code).toBe('EINVAL');
  });

  test('iteration meets every key once, and ends', () => {
    const map = fresh('hash');
    for (let key = 0; key < 8; key++) map.update(u32(key), value(key));
    const keys: number[] = [];
    for (let key = map.nextKey(null); key !== null; key = map.nextKey(key)) keys.push(key.readUInt32LE());
    expect(keys.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(fresh('hash').nextKey(null)).toBeNull();
  });

  test('what the addon reads and writes is what bpftool dumps', () => {
    const map = fresh('hash');
    const keys = Buffer.concat([1, 2, 3, 4, 5].map((key) => u32(key)));
    const values = Buffer.concat([1, 2, 3, 4, 5].map((byte) => value(byte)));
    expect(map.updateBatch(keys, values)).toBe(5);
    map.update(u32(9), value(9));
    map.delete(u32(2));
    const seen = dumped(map);
    expect(seen.size).toBe(5);
    expect(seen.get('09000000')).toBe('09'.repeat(16));
    expect(read(map, 8)).toEqual(seen);
    for (const [key, content] of seen) expect(map.lookup(Buffer.from(key, 'hex'))?.toString('hex')).toBe(content);
  });

  test('a full map refuses with E2BIG; a batch says how many went in', () => {
    const map = fresh('hash');
    const count = 11;
    const keys = Buffer.concat(Array.from({ length: count }, (_, key) => u32(key)));
    const error = refusal(() => map.updateBatch(keys, new Uint8Array(16 * count)));
    expect(error).toMatchObject({ operation: 'updateBatch', code: 'E2BIG', count: 8 });
    expect(dumped(map).size).toBe(8);
    expect(refusal(() => map.update(u32(99), value(1))).code).toBe('E2BIG');
  });

  test('a batch delete stops at the first absent key with the count before it', () => {
    const map = fresh('hash');
    for (const key of [1, 2, 3]) map.update(u32(key), value(key));
    const error = refusal(() => map.deleteBatch(Buffer.concat([u32(1), u32(2), u32(7), u32(3)])));
    expect(error).toMatchObject({ operation: 'deleteBatch', code: 'ENOENT', count: 2 });
    expect([...dumped(map).keys()]).toEqual(['03000000']);
    expect(map.deleteBatch(u32(3))).toBe(1);
  });

  test('a batch that the kernel refuses as a whole did none', () => {
    const map = fresh('hash');
    const error = refusal(() => map.updateBatch(u32(1, 2), new Uint8Array(32), 1 << 30));
    expect(error).toMatchObject({ code: 'EINVAL', count: 0 });
    expect(map.updateBatch(new Uint8Array(0), new Uint8Array(0))).toBe(0);
    expect(map.deleteBatch(new Uint8Array(0))).toBe(0);
  });

  test('a batch read in small pieces finds everything, or says ENOSPC when a bucket is larger than the limit', () => {
    const wide = native().openObject(lab.objectBytes, 'objects');
    wide.setMaxEntries('hash', 4096);
    wide.load();
    const map = wide.map('hash');
    const keys = Buffer.concat(Array.from({ length: 4096 }, (_, key) => u32(key)));
    expect(map.updateBatch(keys, new Uint8Array(16 * 4096))).toBe(4096);
    expect(read(map, 64).size).toBe(4096);
    expect(refusal(() => read(map, 1))).toMatchObject({ operation: 'lookupBatch', code: 'ENOSPC' });
    wide.close();
  });
});

test('longest-prefix trie: looks up by prefix, full means ENOSPC', () => {
  const map = fresh('trie');
  const key = (length: number, ...address: number[]) => Uint8Array.from([length, 0, 0, 0, ...address]);
  const number = (n: number) => new Uint8Array(BigUint64Array.of(BigInt(n)).buffer);
  map.update(key(8, 10, 0, 0, 0), number(8));
  map.update(key(24, 10, 1, 2, 0), number(24));
  expect(map.lookup(key(32, 10, 1, 2, 3))?.readBigUInt64LE()).toBe(24n);
  expect(map.lookup(key(32, 10, 9, 9, 9))?.readBigUInt64LE()).toBe(8n);
  expect(map.lookup(key(32, 11, 0, 0, 1))).toBeNull();
  expect(read(map, 16)).toEqual(dumped(map));
  const keys = Buffer.concat([11, 12, 13].map((octet) => key(8, octet, 0, 0, 0)));
  expect(refusal(() => map.updateBatch(keys, new Uint8Array(24)))).toMatchObject({ code: 'ENOSPC', count: 2 });
  expect(map.delete(key(24, 10, 1, 2, 0))).toBe(true);
  expect(map.lookup(key(32, 10, 1, 2, 3))?.readBigUInt64LE()).toBe(8n);
});

test('per-CPU array: the values of all possible CPUs, each rounded up to eight bytes', () => {
  const map = fresh('percpu');
  const before = map.lookup(u32(0));
  if (before === null) throw new Error('an array has every key');
  expect(before.length % 8).toBe(0);
  const cpus = before.length / 8;
  const values = Buffer.alloc(before.length);
  for (let cpu = 0; cpu < cpus; cpu++) values.writeUInt32LE(cpu + 5, cpu * 8);
  map.update(u32(1), values);
  expect(map.lookup(u32(1))).toEqual(values);
  const shown = json<{ key: string[]; values: { cpu: number; value: string[] }[] }[]>(
    'bpftool',
    '-j',
    'map',
    'dump',
    'pinned',
    pinned(map),
  );
  expect(shown[1]?.values.map((entry) => Number(entry.value[0]))).toEqual(
    Array.from({ length: cpus }, (_, cpu) => cpu + 5),
  );
  expect(map.delete.bind(map, u32(0))).toThrow(/EINVAL/); // an array has no holes
});

describe('pins', () => {
  test('a pinned map opens again as the same map', () => {
    const map = fresh('hash');
    const path = pinned(map);
    map.update(u32(1), value(1));
    const again = native().openMap(path);
    expect(again.info).toEqual(map.info);
    expect(again.lookup(u32(1))).toEqual(Buffer.from(value(1)));
    again.close();
  });

  test('names taken, with a dot, absent, or outside a bpffs are refused', () => {
    const map = fresh('hash');
    const path = pinned(map);
    expect(refusal(() => map.pin(path))).toMatchObject({ operation: 'pin', code: 'EEXIST' });
    expect(refusal(() => map.pin(`${lab.bpffs()}/eth0.100`)).code).toBe('EPERM');
    expect(refusal(() => map.pin(`${lab.directory}/map`)).code).toBe('EPERM'); // no bpffs
    expect(refusal(() => native().openMap(`${lab.bpffs()}/absent`))).toMatchObject({
      operation: 'openMap',
      code: 'ENOENT',
    });
  });

  test('opened read-only it reads, and refuses every change with EPERM', () => {
    const map = fresh('hash');
    map.update(u32(1), value(1));
    const readOnly = native().openMap(pinned(map), { readOnly: true });
    expect(readOnly.lookup(u32(1))).toEqual(Buffer.from(value(1)));
    expect(readOnly.lookupBatch(null, 8).count).toBe(1);
    for (const change of [
      () => readOnly.update(u32(1), value(2)),
      () => readOnly.delete(u32(1)),
      () => readOnly.updateBatch(u32(1), value(2)),
      () => readOnly.deleteBatch(u32(1)),
      () => readOnly.freeze(),
    ])
      expect(refusal(change).code).toBe('EPERM');
    expect(map.lookup(u32(1))).toEqual(Buffer.from(value(1)));
    readOnly.close();
  });

  test("a frozen map says so and refuses the owner's changes too", () => {
    const map = fresh('hash');
    map.update(u32(1), value(1));
    map.freeze();
    expect(map.info.frozen).toBe(true);
    expect(refusal(() => map.update(u32(1), value(2))).code).toBe('EPERM');
    expect(map.lookup(u32(1))).toEqual(Buffer.from(value(1)));
    expect(refusal(() => map.freeze()).code).toBe('EPERM');
  });
});

describe('mapped memory', () => {
  test('words written are seen by the kernel, and the other way round', () => {
    const map = fresh('words');
    const memory = map.mmap();
    expect(memory.byteLength).toBe(32);
    memory.store64(8, 0x0102030405060708n);
    expect(map.lookup(u32(1))).toEqual(Buffer.from('0807060504030201', 'hex'));
    map.update(u32(2), Uint8Array.from([1, 0, 0, 0, 2, 0, 0, 0]));
    expect([memory.load32(16), memory.load32(20), memory.load64(16)]).toEqual([1, 2, 0x2_0000_0001n]);
    memory.store32(16, 0xffffffff);
    expect(memory.load32(16)).toBe(0xffffffff);
    expect(dumped(map).get('02000000')).toBe('ffffffff02000000');
    memory.close();
    memory.close();
    expect(() => memory.load32(0)).toThrow('MappedArray is closed');
  });

  test('or32 returns the word before and leaves the other bits', () => {
    const memory = fresh('words').mmap();
    expect(memory.or32(4, 0x80000001)).toBe(0);
    expect(memory.or32(4, 0x10)).toBe(0x80000001);
    expect(memory.load32(4)).toBe(0x80000011);
    expect(memory.load32(0)).toBe(0);
  });

  test('it outlives the map handle', () => {
    const map = fresh('words');
    const other = native().openMap(pinned(map));
    const memory = map.mmap();
    map.close();
    memory.store32(0, 7);
    expect(other.lookup(u32(0))?.readUInt32LE()).toBe(7);
  });

  test('a frozen map is mapped for reading; a store throws instead of killing the process', () => {
    const map = fresh('words');
    map.update(u32(0), new Uint8Array(8).fill(3));
    const readOnly = native().openMap(pinned(map), { readOnly: true });
    expect(refusal(() => readOnly.mmap())).toMatchObject({ operation: 'mmap', code: 'EACCES' });
    map.freeze();
    const memory = map.mmap();
    expect(memory.load32(0)).toBe(0x03030303);
    expect(refusal(() => memory.store32(0, 1)).code).toBe('EPERM');
    expect(refusal(() => memory.or32(0, 1)).code).toBe('EPERM');
    expect(refusal(() => memory.store64(0, 1n)).code).toBe('EPERM');
  });

  test('a writable mapping keeps a map from being frozen', () => {
    const map = fresh('words');
    const memory = map.mmap();
    expect(refusal(() => map.freeze()).code).toBe('EBUSY');
    memory.close();
    map.freeze();
    expect(map.info.frozen).toBe(true);
  });

  test('only mmapable arrays', () => {
    for (const name of ['hash', 'percpu', 'ring'])
      expect(refusal(() => fresh(name).mmap())).toMatchObject({ operation: 'mmap', code: 'EINVAL' });
  });
});

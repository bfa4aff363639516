import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BpfObject, native } from '../../src/kernel/native.ts';
import { type Lab, openLab, u32 } from './lab.ts';

/** A kind of argument: one good value and the two kinds of bad ones. */
interface Kind {
  readonly good: unknown;
  readonly wrongType: readonly unknown[];
  readonly wrongValue: readonly unknown[];
}

function detached(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

function describeBytes(length: number): Kind {
  return {
    good: new Uint8Array(length),
    wrongType: [
      undefined,
      null,
      true,
      length,
      'x'.repeat(length),
      {},
      [],
      new Uint16Array(length),
      new Int8Array(length),
      new Uint8ClampedArray(length),
      new DataView(new ArrayBuffer(length)),
      new ArrayBuffer(length),
      new SharedArrayBuffer(length),
      new Proxy(new Uint8Array(length), {}),
      Object.create(Uint8Array.prototype),
      { length, byteLength: length, buffer: new ArrayBuffer(length) },
    ],
    wrongValue: [
      new Uint8Array(0),
      new Uint8Array(length - 1),
      new Uint8Array(length + 1),
      new Uint8Array(new SharedArrayBuffer(length + 1)),
      new Uint8Array(1 << 20),
      detached(length),
    ],
  };
}

function describeInteger(least: number, most: number, good = least, optional = false): Kind {
  const wrongType: unknown[] = [null, '1', 1n, {}, [], true, Symbol('1')];
  if (!optional) wrongType.push(undefined);
  return {
    good,
    wrongType,
    wrongValue: [least - 1, most + 1, -1e300, Number.NaN, Infinity, -Infinity, 1.5, 2 ** 53, 1e300],
  };
}

const u32Most = 2 ** 32 - 1;

function describeText(good: string): Kind {
  return {
    good,
    wrongType: [undefined, null, 1, {}, [], Symbol('path'), Buffer.from('path')],
    wrongValue: ['', 'a\0b', 'x'.repeat(4096)],
  };
}

function describeChoice(good: string): Kind {
  return { good, wrongType: [undefined, null, 1, {}, '', good.toUpperCase(), `${good} `], wrongValue: [] };
}

function describeHandle(good: object, another: object): Kind {
  const prototype: object = Object.getPrototypeOf(good);
  return {
    good,
    wrongType: [
      undefined,
      null,
      1,
      'map',
      {},
      another,
      Object.create(prototype),
      Object.create(good),
      new Proxy(good, {}),
    ],
    wrongValue: [],
  };
}

const aFunction: Kind = { good: () => {}, wrongType: [undefined, null, 1, 'x', {}, []], wrongValue: [] };
const aBoolean: Kind = { good: true, wrongType: [null, 0, 1, 'true', {}], wrongValue: [] };
const anObject: Kind = { good: {}, wrongType: [null, 1, 'x', true], wrongValue: [] };

/** [method, its arguments; undefined in `when` = always]. The good values need not make a call succeed. */
type Method = readonly [string, ...Kind[]];

let lab: Lab;
const receivers = new Map<string, object>();
const methods = new Map<string, readonly Method[]>();

function call(receiver: object, method: string, args: readonly unknown[]): unknown {
  return Reflect.apply(Reflect.get(receiver, method) as (...all: unknown[]) => unknown, receiver, args);
}

/** What a call throws, at once or as a promise. */
async function thrownBy(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return undefined;
}

beforeAll(() => {
  lab = openLab();
  const loaded = lab.loaded();
  const unloaded: BpfObject = native().openObject(lab.objectBytes, 'objects');
  const map = loaded.map('hash');
  const percpu = loaded.map('percpu');
  const ring = loaded.map('ring');
  const words = loaded.map('words').mmap();
  const program = loaded.program('on_packet');
  const syscall = loaded.program('emit');
  const absent = `${lab.directory}/absent`;

  receivers.set('native', native());
  methods.set('native', [
    ['openObject', { ...describeBytes(8), wrongValue: [new Uint8Array(0), detached(8)] }, describeText('name')],
    [
      'openMap',
      describeText(absent),
      { ...anObject, wrongType: [null, 1, 'x', true, { readOnly: 1 }, { readOnly: null }] },
    ],
    ['openProgram', describeText(absent)],
    ['openLink', describeText(absent)],
    ['programInfoById', describeInteger(1, u32Most, u32Most)],
    ['linkHolding', describeInteger(1, 2 ** 31 - 1, 2 ** 31 - 1)],
    ['attachXdp', describeHandle(program, map), describeInteger(1, 2 ** 31 - 1, 2 ** 31 - 1), describeChoice('native')],
    [
      'explainXdpRefusal',
      describeHandle(program, map),
      describeInteger(1, 2 ** 31 - 1, 2 ** 31 - 1),
      describeChoice('generic'),
    ],
    ['ringBuffer', describeHandle(map, program), aFunction],
    ['tryLock', describeText(absent), describeChoice('exclusive')],
    ['lock', describeText(absent), describeChoice('shared'), describeInteger(0, 2 ** 31 - 1)],
    ['sendUnixDatagram', describeText(absent), { ...describeBytes(4), wrongValue: [] }],
    ['mountBpffs', describeText(absent), describeInteger(0, 0o7777)],
    ['isHungUp', describeInteger(0, 2 ** 31 - 1)],
    ['exchangePaths', describeText(absent), describeText(absent)],
    ['unmount', describeText(absent), { ...aBoolean, wrongType: [null, 0, 'x'] }],
  ]);

  receivers.set('netlink', native().netlink);
  methods.set('netlink', [['watch', { ...aFunction }]]);

  receivers.set('BpfObject', unloaded);
  methods.set('BpfObject', [
    ['structLayout', describeText('absent')],
    ['enumValues', describeText('absent')],
    ['setMaxEntries', describeText('hash'), describeInteger(1, u32Most, 16)],
    ['reuseMap', describeText('hash'), describeHandle(map, program)],
    ['setRodata', describeText('verdict'), describeBytes(4)],
    ['setAutoload', describeText('refused'), { ...aBoolean, good: false, wrongType: [undefined, null, 0, 'x'] }],
    ['addProgramFlags', describeText('mark'), describeInteger(0, u32Most)],
    ['map', describeText('hash')],
    ['program', describeText('mark')],
  ]);

  receivers.set('BpfMap', map);
  const flags = describeInteger(0, u32Most, 0, true);
  const batch = { ...describeBytes(8), wrongValue: [new Uint8Array(1), new Uint8Array(9), new Uint8Array(12)] };
  methods.set('BpfMap', [
    ['pin', describeText(absent)],
    ['lookup', describeBytes(4)],
    ['update', describeBytes(4), describeBytes(16), flags],
    ['delete', describeBytes(4)],
    ['nextKey', { ...describeBytes(4), wrongType: describeBytes(4).wrongType.filter((value) => value !== null) }],
    [
      'lookupBatch',
      { ...describeBytes(4), wrongType: describeBytes(4).wrongType.filter((value) => value !== null) },
      describeInteger(1, 2 ** 24, 8),
    ],
    ['updateBatch', { ...batch, wrongValue: [new Uint8Array(1), new Uint8Array(9)] }, describeBytes(32), flags],
    ['deleteBatch', { ...batch, wrongValue: [new Uint8Array(1), new Uint8Array(9)] }],
  ]);

  receivers.set('BpfMap per CPU', percpu);
  const perCpuBytes = percpu.lookup(u32(0))?.length ?? 0;
  methods.set('BpfMap per CPU', [['update', describeBytes(4), describeBytes(perCpuBytes)]]);

  receivers.set('BpfMap ring', ring);
  const nothing = {
    good: new Uint8Array(0),
    wrongType: ['', null, 1],
    wrongValue: [new Uint8Array(1), new Uint8Array(4)],
  };
  methods.set('BpfMap ring', [
    ['lookup', nothing],
    ['update', nothing, nothing],
    ['delete', nothing],
    [
      'updateBatch',
      { good: new Uint8Array(0), wrongType: ['', null], wrongValue: [new Uint8Array(0), new Uint8Array(4)] },
    ],
    [
      'deleteBatch',
      { good: new Uint8Array(0), wrongType: ['', null], wrongValue: [new Uint8Array(0), new Uint8Array(4)] },
    ],
  ]);

  receivers.set('MappedArray', words);
  const offset32: Kind = {
    ...describeInteger(0, 28),
    wrongValue: [-4, -1, 1, 2, 3, 29, 32, Number.NaN, 1e300, 2 ** 32],
  };
  const offset64: Kind = { ...describeInteger(0, 24), wrongValue: [-8, 1, 4, 25, 28, 32, Number.NaN, 1e300, 2 ** 32] };
  const word64: Kind = { good: 0n, wrongType: [undefined, null, 0, '0', {}], wrongValue: [-1n, 2n ** 64n, 2n ** 200n] };
  methods.set('MappedArray', [
    ['load32', offset32],
    ['load64', offset64],
    ['store32', offset32, describeInteger(0, u32Most)],
    ['store64', offset64, word64],
    ['or32', offset32, describeInteger(0, u32Most)],
  ]);

  receivers.set('BpfProgram', program);
  const option = (name: string, kind: Kind, base: object = {}): Kind => ({
    good: { ...base, [name]: kind.good },
    wrongType: kind.wrongType.filter((value) => value !== undefined).map((value) => ({ ...base, [name]: value })),
    wrongValue: kind.wrongValue.map((value) => ({ ...base, [name]: value })),
  });
  const huge = [new Uint8Array((1 << 20) + 1)];
  methods.set('BpfProgram', [
    ['pin', describeText(absent)],
    ['testRun', { good: { data: new Uint8Array(64) }, wrongType: [undefined, null, 1, 'x', () => {}], wrongValue: [] }],
    ['testRun', option('data', { ...describeBytes(64), wrongValue: huge })],
    ['testRun', option('context', { ...describeBytes(64), wrongValue: huge }, { data: new Uint8Array(64) })],
    ['testRun', option('repeat', describeInteger(1, 1e9), { data: new Uint8Array(64) })],
  ]);
  receivers.set('BpfProgram syscall', syscall);
  methods.set('BpfProgram syscall', [
    [
      'testRun',
      {
        good: { context: new Uint8Array(8) },
        wrongType: [
          { context: new Uint8Array(8), data: new Uint8Array(14) },
          { context: new Uint8Array(8), repeat: 2 },
        ],
        wrongValue: [],
      },
    ],
  ]);
});

afterAll(() => lab.close());

const groups = [
  'native',
  'netlink',
  'BpfObject',
  'BpfMap',
  'BpfMap per CPU',
  'BpfMap ring',
  'MappedArray',
  'BpfProgram',
  'BpfProgram syscall',
] as const;

describe.each(groups)('%s', (group) => {
  test('a wrong type throws a TypeError, a wrong size or value a RangeError', async () => {
    const receiver = receivers.get(group);
    const table = methods.get(group);
    if (receiver === undefined || table === undefined) throw new Error(`no table for ${group}`);
    let cases = 0;
    for (const [method, ...kinds] of table) {
      for (const [position, kind] of kinds.entries()) {
        const attempt = async (value: unknown, expected: typeof TypeError) => {
          const args = kinds.map((other, at) => (at === position ? value : other.good));
          const error = await thrownBy(() => call(receiver, method, args));
          cases++;
          const shown = typeof value === 'object' && value !== null ? value.constructor?.name : String(value);
          expect(error, `${method}, argument ${position}: ${shown}`).toBeInstanceOf(expected);
        };
        for (const value of kind.wrongType) await attempt(value, TypeError);
        for (const value of kind.wrongValue) await attempt(value, RangeError);
      }
    }
    expect(cases).toBeGreaterThan(0);
  });

  test('no arguments, or a foreign receiver, never crash', async () => {
    const receiver = receivers.get(group);
    const table = methods.get(group);
    if (receiver === undefined || table === undefined) throw new Error(`no table for ${group}`);
    for (const [method, ...kinds] of table) {
      expect(await thrownBy(() => call(receiver, method, [])), method).toBeInstanceOf(Error);
      if (group === 'native' || group === 'netlink') continue; // plain functions: the receiver does not matter
      const body = Reflect.get(receiver, method) as (...all: unknown[]) => unknown;
      const good = kinds.map((kind) => kind.good);
      for (const foreign of [{}, null, undefined, 1, Object.create(receiver), new Proxy(receiver, {}), native()])
        expect(await thrownBy(() => Reflect.apply(body, foreign, good)), method).toBeInstanceOf(TypeError);
    }
  });
});

test('the tables name every method', () => {
  const listed = (group: string) => new Set((methods.get(group) ?? []).map(([method]) => method));
  // what takes no arguments
  const plain = new Set(['maps', 'programs', 'load', 'close', 'freeze', 'mmap', 'info', 'byteLength', 'constructor']);
  for (const group of ['BpfObject', 'BpfMap', 'MappedArray', 'BpfProgram']) {
    const receiver = receivers.get(group) ?? {};
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(receiver));
    expect(names.filter((name) => !plain.has(name) && !listed(group).has(name))).toEqual([]);
  }
  const functions = Object.entries(native()).filter(([, value]) => typeof value === 'function');
  const free = new Set(['clocks', 'membarrier']);
  expect(functions.map(([name]) => name).filter((name) => !free.has(name) && !listed('native').has(name))).toEqual([]);
});

test('handles cannot be constructed from JavaScript', () => {
  for (const group of ['BpfObject', 'BpfMap', 'MappedArray', 'BpfProgram']) {
    const made = receivers.get(group);
    const maker = made?.constructor;
    if (maker === undefined) throw new Error('no constructor');
    expect(() => Reflect.construct(maker, [])).toThrow(TypeError);
    class Derived extends (maker as new () => object) {}
    expect(() => new Derived()).toThrow(TypeError);
  }
});

test('rubbish for an object file is refused by name', () => {
  const cut = lab.objectBytes.subarray(0, lab.objectBytes.length >> 1);
  for (const bytes of [
    Buffer.from('rubbish'),
    Buffer.alloc(4096),
    lab.objectBytes.subarray(0, 64),
    cut,
    lab.objectBytes.subarray(1),
  ])
    expect(() => native().openObject(bytes, 'rubbish')).toThrow(/^openObject: .*rubbish/);
});

test('getters that pull the buffer away under a test run do no harm', () => {
  const program = receivers.get('BpfProgram') as ReturnType<BpfObject['program']>;
  const data = new Uint8Array(64);
  const options = {
    get data() {
      return data;
    },
    get repeat() {
      structuredClone(data.buffer, { transfer: [data.buffer] });
      return 1;
    },
  };
  expect(() => program.testRun(options)).toThrow(/testRun: .*\(EINVAL\)/); // the kernel wants 14 bytes
});

test('views with an offset, at odd addresses and into shared memory reach the kernel whole', () => {
  const map = receivers.get('BpfMap') as ReturnType<BpfObject['map']>;
  const around = new Uint8Array(64).fill(0xee);
  around.set(u32(77), 3);
  const value = Uint8Array.from({ length: 16 }, (_, at) => at + 1);
  around.set(value, 21);
  map.update(around.subarray(3, 7), around.subarray(21, 37));
  expect(map.lookup(u32(77))).toEqual(Buffer.from(value));
  const shared = new Uint8Array(new SharedArrayBuffer(8)).subarray(4);
  shared.set(u32(77));
  expect(map.lookup(shared)).toEqual(Buffer.from(value));
  expect(map.delete(shared)).toBe(true);
});

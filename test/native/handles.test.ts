import { afterAll, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/kernel/native.ts';
import { ending, type Lab, openDescriptors, openLab, startScript, u32 } from './lab.ts';

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

test('after close() every method throws, and closing again does nothing', () => {
  const object = lab.loaded();
  const map = object.map('hash');
  const program = object.program('on_packet');
  const memory = object.map('words').mmap();
  const ring = native().ringBuffer(object.map('ring'), () => {});
  const lock = native().tryLock(lab.directory, 'exclusive');
  if (lock === null) throw new Error('nobody else holds it');
  const handles: Record<string, [{ close(): void }, Record<string, () => unknown>]> = {
    BpfMap: [
      map,
      {
        info: () => map.info,
        pin: () => map.pin('/x'),
        lookup: () => map.lookup(u32(1)),
        update: () => map.update(u32(1), new Uint8Array(16)),
        delete: () => map.delete(u32(1)),
        nextKey: () => map.nextKey(null),
        lookupBatch: () => map.lookupBatch(null, 1),
        updateBatch: () => map.updateBatch(u32(1), new Uint8Array(16)),
        deleteBatch: () => map.deleteBatch(u32(1)),
        freeze: () => map.freeze(),
        mmap: () => map.mmap(),
        asArgument: () => native().ringBuffer(map, () => {}),
      },
    ],
    BpfProgram: [
      program,
      {
        info: () => program.info,
        pin: () => program.pin('/x'),
        testRun: () => program.testRun({ data: new Uint8Array(14) }),
        asArgument: () => native().attachXdp(program, 1, 'generic'),
      },
    ],
    MappedArray: [
      memory,
      {
        byteLength: () => memory.byteLength,
        load32: () => memory.load32(0),
        load64: () => memory.load64(0),
        store32: () => memory.store32(0, 0),
        store64: () => memory.store64(0, 0n),
        or32: () => memory.or32(0, 0),
      },
    ],
    RingBuffer: [ring, { consume: () => ring.consume() }],
    BpfObject: [
      object,
      {
        maps: () => object.maps(),
        programs: () => object.programs(),
        structLayout: () => object.structLayout('entry'),
        enumValues: () => object.enumValues('reason'),
        setMaxEntries: () => object.setMaxEntries('hash', 1),
        reuseMap: () => object.reuseMap('hash', map),
        setRodata: () => object.setRodata('verdict', u32(1)),
        setAutoload: () => object.setAutoload('refused', false),
        addProgramFlags: () => object.addProgramFlags('mark', 0),
        load: () => object.load(),
        map: () => object.map('hash'),
        program: () => object.program('mark'),
      },
    ],
  };
  for (const [name, [handle, calls]] of Object.entries(handles)) {
    handle.close();
    handle.close();
    for (const [call, run] of Object.entries(calls)) expect(run, `${name}.${call}`).toThrow(`${name} is closed`);
  }
  lock.release();
  lock.release();
});

/** Lets finalizers run: Node defers them to the loop after a collection. */
async function collect(): Promise<void> {
  for (let round = 0; round < 4; round++) {
    globalThis.gc?.();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

test('close() gives every descriptor back', () => {
  const before = openDescriptors();
  const object = native().openObject(lab.objectBytes, 'objects');
  object.load();
  const map = object.map('ring');
  const handles = [object, map, object.program('mark'), object.map('words').mmap(), native().ringBuffer(map, () => {})];
  const words = object.map('words');
  handles.push(words, native().netlink.watch(() => {}) as typeof words);
  expect(openDescriptors()).toBeGreaterThan(before + 8);
  for (const handle of handles) handle.close();
  // object.map('words') whose mmap was taken has no name here: it goes with the collector, see below
  expect(openDescriptors()).toBeLessThanOrEqual(before + 1);
});

test('what nobody closes is closed by the collector', async () => {
  expect(globalThis.gc).toBeTypeOf('function');
  await collect();
  const before = openDescriptors();
  const open = () => {
    for (let i = 0; i < 20; i++) {
      const object = native().openObject(lab.objectBytes, 'objects');
      object.load();
      object.map('hash');
      object.map('words').mmap();
      object.program('mark');
      native().tryLock(lab.directory, 'shared');
    }
  };
  open();
  expect(openDescriptors()).toBeGreaterThan(before + 100);
  await collect();
  expect(openDescriptors()).toBe(before);
});

test('a failed constructor or call leaves nothing open', async () => {
  await collect();
  const before = openDescriptors();
  const object = lab.loaded();
  const hash = object.map('hash');
  const own = openDescriptors();
  for (let i = 0; i < 10; i++) {
    expect(() => native().ringBuffer(hash, () => {})).toThrow();
    expect(() => native().openMap(lab.directory)).toThrow();
    expect(() => native().openObject(Buffer.from('rubbish'), 'rubbish')).toThrow();
    expect(() => native().sendUnixDatagram('@fd-nobody-listens', u32(1))).toThrow();
    expect(() => native().tryLock(`${lab.directory}/absent`, 'shared')).toThrow();
  }
  expect(openDescriptors()).toBe(own);
  expect(own).toBeGreaterThan(before);
});

test.each([
  'ends',
  'exit',
  'exit-code',
  'throw',
  'worker-ends',
  'worker-exit',
  'worker-terminated',
  'worker-waiting-for-lock',
  'workers',
  'waiting-for-lock',
  'reload',
])('with every kind of handle open: %s', async (way) => {
  const result = await ending(startScript('leave.ts', [lab.objectPath, lab.directory, way], ['--expose-gc']));
  expect(result.signal).toBeNull();
  const code = { 'exit-code': 5, throw: 1 }[way] ?? 0;
  expect(result.code, result.stderr).toBe(code);
  expect(result.stdout).toBe('open\n');
  if (way !== 'throw') expect(result.stderr).toBe('');
});

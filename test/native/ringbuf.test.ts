import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BpfObject, native, type RingBuffer } from '../../src/kernel/native.ts';
import { ending, type Lab, openLab, refusal, startScript, u32 } from './lab.ts';

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

function emit(object: BpfObject, count: number): number {
  const { context } = object.program('emit').testRun({ context: u32(count, 0) });
  return context.readUInt32LE(4);
}

const turn = async () => await new Promise<void>((resolve) => setImmediate(resolve));

test('records come through the event loop, whole and in order', async () => {
  const object = lab.loaded();
  const seen: number[] = [];
  await new Promise<void>((resolve) => {
    const ring = native().ringBuffer(object.map('ring'), (record) => {
      expect(record).toHaveLength(4);
      seen.push(record.readUInt32LE());
      if (seen.length === 3000) {
        ring.close();
        resolve();
      }
    });
    expect(emit(object, 3000)).toBe(3000);
    expect(seen).toEqual([]); // nothing before the loop turns
  });
  expect(seen).toEqual(Array.from({ length: 3000 }, (_, at) => at));
});

test('consume() takes what is there at once', async () => {
  const object = lab.loaded();
  const seen: number[] = [];
  const ring = native().ringBuffer(object.map('ring'), (record) => seen.push(record.readUInt32LE()));
  expect(ring.consume()).toBe(0);
  emit(object, 5);
  expect(ring.consume()).toBe(5);
  expect(seen).toEqual([0, 1, 2, 3, 4]);
  await turn();
  expect(seen).toHaveLength(5);
  ring.close();
  ring.close();
  expect(() => ring.consume()).toThrow('RingBuffer is closed');
});

test('a full ring drops, and goes on after it was read', () => {
  const object = lab.loaded();
  let seen = 0;
  const ring = native().ringBuffer(object.map('ring'), () => {
    seen++;
  });
  const fitted = emit(object, 4096); // 16 bytes each, 64 KiB less one header
  expect(fitted).toBeGreaterThan(4000);
  expect(fitted).toBeLessThan(4096);
  expect(ring.consume()).toBe(fitted);
  expect(emit(object, 10)).toBe(10);
  expect(ring.consume()).toBe(10);
  expect(seen).toBe(fitted + 10);
  ring.close();
});

test('what the callback throws in consume() reaches its caller, and the record is not seen again', () => {
  const object = lab.loaded();
  const seen: number[] = [];
  const ring = native().ringBuffer(object.map('ring'), (record) => {
    seen.push(record.readUInt32LE());
    if (seen.length === 2) throw new Error('enough');
  });
  emit(object, 4);
  expect(() => ring.consume()).toThrow('enough');
  expect(ring.consume()).toBe(2);
  expect(seen).toEqual([0, 1, 2, 3]);
  ring.close();
});

test('consume() from its own callback is refused; close() there ends it', () => {
  const object = lab.loaded();
  let refusals = 0;
  let seen = 0;
  const ring: RingBuffer = native().ringBuffer(object.map('ring'), () => {
    seen++;
    expect(() => ring.consume()).toThrow('from its own callback');
    refusals++;
    if (seen === 2) ring.close();
  });
  emit(object, 5);
  expect(ring.consume()).toBe(2);
  expect({ refusals, seen }).toEqual({ refusals: 2, seen: 2 });
});

test('only a ring buffer map will do', () => {
  const object = lab.loaded();
  expect(refusal(() => native().ringBuffer(object.map('hash'), () => {}))).toMatchObject({
    operation: 'ringBuffer',
    code: 'EINVAL',
  });
});

test.each([
  ['throws', { code: 1, stderr: 'Error: from the callback' }],
  ['throws-caught', { code: 0, stdout: 'caught 3 of 3\n' }],
  ['exits', { code: 7, stdout: '' }],
  ['closes', { code: 0, stdout: 'closed\n' }],
  ['forgotten', { code: 0, stdout: 'still here\n' }],
  ['worker-throws', { code: 0, stdout: 'worker: from the callback\n' }],
  ['worker-exits', { code: 0, stdout: 'worker ended with 7\n' }],
])('in a process of its own: %s', async (way, expected) => {
  const result = await ending(startScript('ring.ts', [lab.objectPath, way], ['--expose-gc']));
  expect(result.signal).toBeNull();
  expect(result.code, result.stderr).toBe(expected.code);
  if ('stdout' in expected) expect(result.stdout).toBe(expected.stdout);
  if ('stderr' in expected) expect(result.stderr).toContain(expected.stderr);
});

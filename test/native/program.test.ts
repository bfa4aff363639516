import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BpfObject } from '../../src/kernel/native.ts';
import { type Lab, openLab, refusal, u32 } from './lab.ts';

let lab: Lab;
let object: BpfObject;
beforeAll(() => {
  lab = openLab();
  object = lab.loaded();
});
afterAll(() => lab.close());

const XDP_PASS = 2;
const XDP_TX = 3;

test('an XDP program runs as often as asked, and its counts are in the map', () => {
  const counts = () => {
    const values = object.map('percpu').lookup(u32(0)) ?? Buffer.alloc(0);
    let sum = 0;
    for (let at = 0; at < values.length; at += 8) sum += values.readUInt32LE(at);
    return sum;
  };
  const before = counts();
  const result = object.program('on_packet').testRun({ data: new Uint8Array(64), repeat: 1000 });
  expect(result.returnValue).toBe(XDP_PASS);
  expect(result.durationNs).toBeGreaterThan(0);
  expect(counts() - before).toBe(1000);
});

test('the packet comes back as the program left it', () => {
  const packet = Uint8Array.from({ length: 60 }, (_, at) => at);
  const result = object.program('mark').testRun({ data: packet });
  expect(result.returnValue).toBe(XDP_TX);
  expect(result.data).toEqual(Buffer.from([0xfd, ...packet.subarray(1)]));
  expect(packet[0]).toBe(0); // the caller's stays
});

test('fewer than 14 bytes are refused by the kernel', () => {
  for (const length of [0, 1, 13])
    expect(refusal(() => object.program('on_packet').testRun({ data: new Uint8Array(length) }))).toMatchObject({
      operation: 'testRun',
      code: 'EINVAL',
    });
  expect(object.program('on_packet').testRun({ data: new Uint8Array(14) }).returnValue).toBe(XDP_PASS);
});

test("an XDP program's context tells the interface", () => {
  // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
  const context = u32(0, 64, 0, 1, 0, 0);
  const result = object.program('on_packet').testRun({ data: new Uint8Array(64), context });
  expect(result.returnValue).toBe(XDP_PASS);
  expect(result.context).toHaveLength(24);
});

test('a syscall program gets its context and writes into the one returned', () => {
  const context = u32(3, 0);
  const result = object.program('emit').testRun({ context });
  expect(result.returnValue).toBe(3);
  expect(result.context).toEqual(Buffer.from(u32(3, 3)));
  expect(context).toEqual(u32(3, 0));
  expect(result.data).toHaveLength(0);
});

test('a socket program sees the packet behind the Ethernet header', () => {
  expect(object.program('length').testRun({ data: new Uint8Array(100) }).returnValue).toBe(86);
  object.map('trie').update(Uint8Array.from([24, 0, 0, 0, 192, 0, 2, 0]), Uint8Array.from([42, 0, 0, 0, 0, 0, 0, 0]));
  expect(object.program('length').testRun({ data: new Uint8Array(100) }).returnValue).toBe(42);
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sampleLines } from '../../src/cli/watch.ts';
import { type DropSample, dropSample, readDropSample } from '../../src/daemon/drop-sample.ts';
import { count_kind, layout } from '../../src/kernel/layout.ts';
import { decodeSample } from '../../src/kernel/samples.ts';

const member = layout.sample.members;

interface Fields {
  readonly family: number;
  readonly kind: number;
  readonly prefixLength: number;
  readonly protocol: number;
  readonly ports: readonly [number, number];
  readonly source: string;
  readonly destination: string;
}

function record(fields: Partial<Fields> = {}): Buffer {
  const bytes = Buffer.alloc(layout.sample.size);
  const { family = 4, kind = count_kind.DROP_ADDRESS, prefixLength = 32, protocol = 6, ports = [40000, 22] } = fields;
  const { source = 'cb007142', destination = 'c6336401' } = fields;
  bytes.writeBigUInt64LE(5_000_000_000n, member.at[0]);
  bytes.writeBigUInt64LE(8n, member.packets[0]);
  bytes.writeUInt32LE(2, member.ifindex[0]);
  bytes.writeUInt32LE(60, member.length[0]);
  bytes[member.family[0]] = family;
  bytes[member.kind[0]] = kind;
  bytes[member.prefix_length[0]] = prefixLength;
  bytes[member.protocol[0]] = protocol;
  bytes.writeUInt16LE(ports[0], member.source_port[0]);
  bytes.writeUInt16LE(ports[1], member.destination_port[0]);
  bytes.set(Buffer.from(source, 'hex'), member.source[0]);
  bytes.set(Buffer.from(destination, 'hex'), member.destination[0]);
  return bytes;
}

/** Met a second and a half before now, which is 2026-11-22T08:00:00Z. */
const moment = { dropNow: 6_500_000_000n, wallMs: Date.UTC(2026, 10, 22, 8), nameOf: () => 'eth0' };

function told(fields: Partial<Fields> = {}): DropSample {
  const sample = decodeSample(record(fields));
  if (sample === null) throw new Error('no sample');
  return dropSample(sample, moment);
}

const v6 = {
  family: 6,
  prefixLength: 48,
  source: '20010db8000500000000000000000066',
  destination: '20010db8000100000000000000000001',
};

describe('a sample', () => {
  test('in words', () => {
    expect(told()).toEqual({
      at: '2026-11-22T07:59:58.500Z',
      interface: 'eth0',
      ifindex: 2,
      verdict: 'dropped',
      reason: 'address',
      entry: '203.0.113.66',
      source: '203.0.113.66',
      destination: '198.51.100.1',
      protocol: 'tcp',
      source_port: 40000,
      destination_port: 22,
      length: 60,
      packet: 8,
    });
    expect(told({ kind: count_kind.DROP_PREFIX, prefixLength: 25 })).toMatchObject({
      reason: 'prefix',
      entry: '203.0.113.0/25',
    });
    expect(told({ kind: count_kind.PASS_MONITORED })).toMatchObject({ verdict: 'counted', reason: 'monitor' });
    expect(told({ kind: count_kind.PASS_MODE_MONITOR })).toMatchObject({ verdict: 'counted', reason: 'mode_monitor' });
    expect(told({ protocol: 253, ports: [0, 0] })).toMatchObject({
      protocol: '253',
      source_port: null,
      destination_port: null,
    });
    expect(told({ ...v6, protocol: 58 })).toMatchObject({
      entry: '2001:db8:5::/48',
      source: '2001:db8:5::66',
      protocol: 'icmpv6',
    });
  });

  test.each<[string, Buffer]>([
    ['cut', record().subarray(1)],
    ['longer', Buffer.concat([record(), Buffer.alloc(8)])],
    ['empty', Buffer.alloc(0)],
    ['of no family', record({ family: 5 })],
    ['of a kind that is not sampled', record({ kind: count_kind.PASS_CLEAN })],
    ['of a prefix that there is not', record({ prefixLength: 33 })],
  ])('that is %s is none', (_, bytes) => {
    expect(decodeSample(bytes)).toBeNull();
  });

  test('of any bytes is read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: layout.sample.size, maxLength: layout.sample.size }), (bytes) => {
        const sample = decodeSample(Buffer.from(bytes));
        if (sample === null) return;
        const object = dropSample(sample, moment);
        expect(object.entry.includes(object.source.includes(':') ? ':' : '.')).toBe(true);
      }),
    );
  });
});

describe('what came over a socket', () => {
  test('is believed when it is a sample, and nothing more of it', () => {
    expect(readDropSample(JSON.parse(JSON.stringify({ ...told(), more: 1 })))).toEqual(told());
    expect(readDropSample({ ...told(), interface: null })?.interface).toBeNull();
  });

  test.each<[string, object]>([
    ['no time', { at: 'soon' }],
    ['a long time', { at: `2026-11-22T08:00:00Z${' '.repeat(100)}` }],
    ['no address', { source: '\x1b[2J' }],
    ['no prefix', { entry: '203.0.113.0/99' }],
    ['a verdict that there is not', { verdict: 'passed' }],
    ['a verdict that does not fit its reason', { verdict: 'counted' }],
    ['a protocol with a space', { protocol: 'tcp x' }],
    ['a port that is none', { source_port: '22' }],
    ['a port below none', { source_port: -1 }],
    ['a number that is none', { packet: 1e300 }],
    ['an endless name', { interface: 'x'.repeat(1000) }],
    ['a name that is none', { interface: {} }],
  ])('is refused with %s', (_, more) => {
    expect(readDropSample({ ...told(), ...more })).toBeNull();
  });

  test.each([null, undefined, 3, 'x', [], {}])('is refused as %j', (value) => {
    expect(readDropSample(value)).toBeNull();
  });
});

describe('its lines', () => {
  test('fit 80 columns, hold all of it, and no character that moves the cursor', () => {
    const address = fc.ipV6();
    const port = fc.option(fc.nat({ max: 65_535 }), { nil: null });
    fc.assert(
      fc.property(
        address,
        address,
        port,
        fc.string({ unit: 'binary', maxLength: 15 }),
        fc.nat({ max: 128 }),
        (source, destination, ports, name, length) => {
          const sample: DropSample = {
            ...told(v6),
            source,
            destination,
            source_port: ports,
            destination_port: ports,
            interface: name,
            entry: `${source}/${length}`,
            packet: Number.MAX_SAFE_INTEGER,
            length: 4_294_967_295,
          };
          const lines = sampleLines(sample, false);
          const text = lines.join(' ');
          for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
          expect(text).toContain(source);
          expect(text).toContain(destination);
          expect(text).toContain(`dropped by /${length} #${Number.MAX_SAFE_INTEGER}`);
          expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u);
        },
      ),
      { examples: [['2001:db8::1', '2001:db8::2', null, '\u0085'.repeat(15), 48]] },
    );
  });

  test('of IPv4 is one, and its verdict is coloured', () => {
    for (const fields of [
      {},
      { kind: count_kind.DROP_PREFIX, prefixLength: 24 },
      { kind: count_kind.PASS_MONITORED },
    ]) {
      expect(sampleLines(told(fields), false)).toHaveLength(1);
    }
    expect(sampleLines(told(), false).join()).toMatch(
      / eth0 tcp 60 203\.0\.113\.66:40000 > 198\.51\.100\.1:22 dropped #8$/,
    );
    expect(sampleLines(told(), true).join()).toContain('\x1b[31mdropped #8\x1b[0m');
  });
});

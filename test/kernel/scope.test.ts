/** Blocks limited to local ports, and ports that are never dropped: what a packet shows, and what follows when it does not. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePorts } from '../../src/address/port.ts';
import { decodeScope, encodeScope } from '../../src/kernel/layout.ts';
import { eight, extension, fragment, frame, ipv4, ipv6, protocol, tcp, udp } from './packets.ts';
import { openPlane, type Plane, soon } from './plane.ts';

let plane: Plane;
beforeAll(() => {
  plane = openPlane();
});
afterAll(() => plane.close());

const four = '198.51.100.66';
const six = '2001:db8:bad::66';

const v4 = (fields: Omit<Parameters<typeof ipv4>[0], 'source'>): Buffer => frame(4, ipv4({ source: four, ...fields }));
const v6 = (next: number, payload: Uint8Array): Buffer => frame(6, ipv6({ source: six, next, payload }));
const ssh = tcp(40_000, 22);
const web = tcp(40_000, 443);
const many = (count: number, next: number, rest: Uint8Array): Buffer => {
  let bytes: Buffer = Buffer.from(rest);
  for (let i = 0; i < count; i++) bytes = extension(i === 0 ? next : protocol.destination, bytes);
  return bytes;
};
const authentication = (next: number, rest: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([next, 4]), Buffer.alloc(22), rest]);

/** `shows`: the port in scope, another (or none at all), or nothing. */
const packets: readonly (readonly [name: string, shows: 'port' | 'other' | 'nothing', bytes: Buffer])[] = [
  ['TCP to the port', 'port', v4({ protocol: protocol.tcp, payload: ssh })],
  ['TCP to another', 'other', v4({ protocol: protocol.tcp, payload: web })],
  ['TCP from the port', 'other', v4({ protocol: protocol.tcp, payload: tcp(22, 443) })],
  ['UDP to the same number', 'other', v4({ protocol: protocol.udp, payload: udp(40_000, 22) })],
  ['UDP to its port', 'port', v4({ protocol: protocol.udp, payload: udp(40_000, 53) })],
  ['TCP behind options', 'port', v4({ protocol: protocol.tcp, payload: ssh, options: Buffer.alloc(40, 1) })],
  ['ICMP', 'other', v4({ protocol: protocol.icmp, payload: eight(8) })],
  ['GRE', 'other', v4({ protocol: protocol.gre, payload: eight() })],
  ['a first fragment', 'port', v4({ protocol: protocol.tcp, payload: ssh, moreFragments: true })],
  ['a first fragment to another port', 'other', v4({ protocol: protocol.tcp, payload: web, moreFragments: true })],
  ['a later fragment', 'nothing', v4({ protocol: protocol.tcp, payload: web, fragmentOffset: 8 })],
  ['a later fragment of ICMP', 'nothing', v4({ protocol: protocol.icmp, payload: eight(), fragmentOffset: 8 })],
  ['TCP cut before its ports', 'nothing', v4({ protocol: protocol.tcp, payload: ssh.subarray(0, 3) })],
  ['TCP cut behind its ports', 'port', v4({ protocol: protocol.tcp, payload: ssh.subarray(0, 4) })],
  ['ihl 4', 'nothing', v4({ protocol: protocol.tcp, payload: web, ihl: 4 })],
  ['ihl 15 beyond the end', 'nothing', v4({ protocol: protocol.tcp, payload: web, ihl: 15 })],
  ['v6 TCP to the port', 'port', v6(protocol.tcp, ssh)],
  ['v6 TCP to another', 'other', v6(protocol.tcp, web)],
  ['v6 ICMP', 'other', v6(protocol.icmpv6, eight(128))],
  ['v6 hop-by-hop', 'port', v6(protocol.hopByHop, extension(protocol.tcp, ssh))],
  ['v6 hop-by-hop, another port', 'other', v6(protocol.hopByHop, extension(protocol.tcp, web))],
  ['v6 routing', 'port', v6(protocol.routing, extension(protocol.tcp, ssh))],
  ['v6 authentication', 'port', v6(protocol.ah, authentication(protocol.tcp, ssh))],
  ['v6 first fragment', 'port', v6(protocol.fragment, fragment(protocol.tcp, 0, true, ssh))],
  ['v6 first fragment, another port', 'other', v6(protocol.fragment, fragment(protocol.tcp, 0, true, web))],
  ['v6 later fragment', 'nothing', v6(protocol.fragment, fragment(protocol.tcp, 8, false, web))],
  ['v6 extension cut', 'nothing', v6(protocol.hopByHop, extension(protocol.tcp, web).subarray(0, 7))],
  ['v6 eight extensions', 'port', v6(protocol.destination, many(8, protocol.tcp, ssh))],
  ['v6 eight extensions, another port', 'other', v6(protocol.destination, many(8, protocol.tcp, web))],
  ['v6 nine extensions', 'nothing', v6(protocol.destination, many(9, protocol.tcp, web))],
  ['v6 no next header', 'other', v6(protocol.none, new Uint8Array())],
];

describe('a block limited to ports', () => {
  beforeEach(() => {
    plane.clear();
    plane.scope(3, parsePorts('tcp/22,udp/53'));
    for (const source of [four, six]) plane.put(source, { dropUntil: soon(), scope: 3 });
  });

  test.each(packets)('%s', (_name, shows, bytes) => {
    const { verdict, counts } = plane.run(bytes);
    expect(verdict).toBe(shows === 'other' ? 'pass' : 'drop');
    expect(Object.keys(counts).filter((kind) => !kind.startsWith('ALSO'))).toEqual([
      shows === 'other' ? 'PASS_OTHER_PORT' : 'DROP_ADDRESS',
    ]);
    // What it lets through it does not count.
    const family = bytes[12] === 0x08 ? four : six;
    expect(plane.entry(family)?.packets).toBe(shows === 'other' ? 0n : 1n);
  });

  test('does not shield from a wider one, nor a monitor entry from it', () => {
    plane.put('198.51.100.0/24', { dropUntil: soon() });
    expect(plane.run(v4({ protocol: protocol.tcp, payload: web })).counts).toHaveProperty('DROP_PREFIX');
    plane.put('198.51.100.0/24', { countUntil: soon() });
    expect(plane.run(v4({ protocol: protocol.tcp, payload: web })).counts).toHaveProperty('PASS_MONITORED');
    expect(plane.run(v4({ protocol: protocol.tcp, payload: ssh })).counts).toHaveProperty('DROP_ADDRESS');
  });

  test.each(['an empty row', 'a row that is not there'])('%s limits nothing', (which) => {
    plane.put(four, { dropUntil: soon(), scope: which === 'an empty row' ? 9 : 60_000 });
    expect(plane.run(v4({ protocol: protocol.tcp, payload: web })).verdict).toBe('drop');
  });

  test('sixteen ports, the last one too', () => {
    plane.scope(3, parsePorts(Array.from({ length: 16 }, (_, index) => `tcp/${1000 + index}`).join()));
    expect(plane.run(v4({ protocol: protocol.tcp, payload: tcp(1, 1015) })).verdict).toBe('drop');
    expect(plane.run(v4({ protocol: protocol.tcp, payload: tcp(1, 1016) })).verdict).toBe('pass');
  });
});

describe('ports that are never dropped', () => {
  beforeEach(() => {
    plane.clear();
    plane.configure({ neverDrop: parsePorts('tcp/22,udp/53') });
    for (const source of [four, six]) plane.put(source, { dropUntil: soon() });
  });

  test.each(packets)('%s', (_name, shows, bytes) => {
    const { verdict, counts } = plane.run(bytes);
    expect(verdict).toBe(shows === 'port' ? 'pass' : 'drop');
    if (shows === 'port') expect(counts).toHaveProperty('PASS_NEVER_DROP');
  });

  test('cost nothing where nobody is blocked', () => {
    expect(plane.run(frame(4, ipv4({ source: '203.0.113.1', payload: ssh }))).counts).toHaveProperty('PASS_CLEAN');
  });
});

test('a row keeps what is written', () => {
  for (const text of ['tcp/0', 'tcp/65535,udp/1,sctp/7', Array.from({ length: 16 }, (_, n) => `udp/${n}`).join()]) {
    const ports = parsePorts(text);
    expect(decodeScope(encodeScope(ports))).toEqual(ports);
  }
});

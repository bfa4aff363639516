/** Tables of packets and entries through the loaded XDP program (BPF_PROG_TEST_RUN). */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Prefix, parsePrefix } from '../../src/address/prefix.ts';
import { monotonicNs } from '../../src/kernel/clock.ts';
import type { CountKind } from '../../src/kernel/counters.ts';
import { forEver, layout, mode, never } from '../../src/kernel/layout.ts';
import { expectation, type ModelBlock } from './model.ts';
import {
  eight,
  ethertype,
  extension,
  fragment,
  frame,
  frameOf,
  ipv4,
  ipv6,
  linkLength,
  links,
  pppoeSession,
  protocol,
  tcp,
  traffic,
  udp,
} from './packets.ts';
import { hour, openPlane, type Plane, past, soon } from './plane.ts';

const attacker = { 4: '198.51.100.66', 6: '2001:db8:bad::66' } as const;
const network = { 4: '198.51.100.0/24', 6: '2001:db8:bad::/48' } as const;
const neighbour = { 4: '198.51.100.67', 6: '2001:db8:bad::67' } as const;
const q = ethertype.dot1q;
const ad = ethertype.dot1ad;
const families = [4, 6] as const;

const plainOf = (family: 4 | 6, source: string = attacker[family]): Buffer =>
  frame(
    family,
    family === 4
      ? ipv4({ source, protocol: protocol.tcp, payload: tcp(40000, 22) })
      : ipv6({ source, next: protocol.tcp, payload: tcp(40000, 22) }),
  );

let plane: Plane;
beforeAll(() => {
  plane = openPlane();
});
beforeEach(() => plane.clear());
afterAll(() => plane.close());

/** What one frame counts: each kind once, with the frame's length. */
function counted(bytes: Uint8Array, ...kinds: CountKind[]) {
  return Object.fromEntries(kinds.map((kind) => [kind, { packets: 1, bytes: bytes.length }]));
}

describe('no protocol escapes', () => {
  const rows = links.flatMap((link) => traffic.map((kind) => [`${kind.name}, ${link.name}`, kind, link] as const));

  it.each(rows)('%s', (_name, kind, link) => {
    const bytes = frame(kind.family, kind.packet(attacker[kind.family]), link);
    const beside: CountKind[] = kind.malformed ? ['ALSO_MALFORMED'] : [];

    expect(plane.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_CLEAN', ...beside) });

    plane.put(attacker[kind.family], { dropUntil: soon() });
    expect(plane.run(bytes)).toEqual({ verdict: 'drop', counts: counted(bytes, 'DROP_ADDRESS', ...beside) });
    const other = frame(kind.family, kind.packet(neighbour[kind.family]), link);
    expect(plane.run(other).verdict).toBe('pass');

    plane.clear();
    plane.put(network[kind.family], { dropUntil: soon() });
    expect(plane.run(bytes)).toEqual({ verdict: 'drop', counts: counted(bytes, 'DROP_PREFIX', ...beside) });
  });

  it('takes Ethernet padding for no lie', () => {
    const bytes = Buffer.concat([plainOf(4), Buffer.alloc(20)]);
    plane.put(attacker[4], { dropUntil: soon() });
    expect(plane.run(bytes)).toEqual({ verdict: 'drop', counts: counted(bytes, 'DROP_ADDRESS') });
  });

  it.each(families)('holds for a jumbo frame in several buffers, IPv%s', (family) => {
    const payload = udp(1, 2, Buffer.alloc(8900));
    const packet = family === 4 ? ipv4({ source: attacker[4], payload }) : ipv6({ source: attacker[6], payload });
    const bytes = frame(family, packet);
    expect(plane.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_CLEAN') });
    plane.put(attacker[family], { dropUntil: soon() });
    expect(plane.run(bytes)).toEqual({ verdict: 'drop', counts: counted(bytes, 'DROP_ADDRESS') });
  });

  it.each(families)('does not take the destination for the source, IPv%s', (family) => {
    plane.put(attacker[family], { dropUntil: soon() });
    const packet =
      family === 4
        ? ipv4({ source: neighbour[4], destination: attacker[4] })
        : ipv6({ source: neighbour[6], destination: attacker[6] });
    expect(plane.run(frame(family, packet)).verdict).toBe('pass');
  });

  it('does not look into a tunnel for the source', () => {
    plane.put(attacker[4], { dropUntil: soon() });
    const inner = ipv4({ source: attacker[4] });
    const packet = ipv4({ source: neighbour[4], protocol: protocol.ipip, payload: inner });
    expect(plane.run(frame(4, packet)).verdict).toBe('pass');
  });
});

describe('what is not looked up passes, and is counted by kind', () => {
  const blocked = (family: 4 | 6) => plainOf(family).subarray(14);
  const cases: readonly (readonly [string, Buffer, CountKind])[] = [
    ['ARP', frameOf(ethertype.arp, Buffer.alloc(28)), 'PASS_NOT_IP'],
    ['ARP in a VLAN', frameOf(ethertype.arp, Buffer.alloc(28), [q]), 'PASS_NOT_IP'],
    ['LLDP', frameOf(ethertype.lldp, Buffer.alloc(46)), 'PASS_NOT_IP'],
    ['MPLS', frameOf(ethertype.mpls, blocked(4)), 'PASS_NOT_IP'],
    ['MPLS multicast', frameOf(ethertype.mplsMulticast, blocked(4)), 'PASS_NOT_IP'],
    ['EAPOL', frameOf(ethertype.eapol, Buffer.alloc(46)), 'PASS_NOT_IP'],
    ['MACsec', frameOf(ethertype.macsec, Buffer.alloc(46)), 'PASS_NOT_IP'],
    ['802.3 with LLC', frameOf(46, Buffer.alloc(46)), 'PASS_NOT_IP'],
    ['an old QinQ type', frameOf(0x9100, blocked(4)), 'PASS_NOT_IP'],
    ['PPPoE discovery', frameOf(ethertype.pppoeDiscovery, pppoeSession(Buffer.of(0, 0x21), blocked(4))), 'PASS_NOT_IP'],
    ...(
      [
        ['LCP', [0xc0, 0x21]],
        ['IPCP', [0x80, 0x21]],
        ['IPv6CP', [0x80, 0x57]],
        ['multilink', [0x00, 0x3d]],
        ['multilink, compressed', [0x3d]],
        ['MPLS', [0x02, 0x81]],
        ['a number that ends like IPv4’s', [0x02, 0x21]],
      ] as const
    ).map(
      ([name, number]) =>
        [
          `PPP ${name}`,
          frameOf(ethertype.pppoeSession, pppoeSession(Uint8Array.from(number), blocked(4))),
          'PASS_NOT_IP',
        ] as const,
    ),
    ...families.flatMap((family) =>
      (
        [
          [q, q, q],
          [ad, q, q],
          [ad, ad, ad],
          [q, q, q, q],
        ] as const
      ).map(
        (tags) =>
          [`IPv${family} in ${tags.length} tags`, frame(family, blocked(family), { tags }), 'PASS_TAGS'] as const,
      ),
    ),
  ];

  it.each(cases)('%s', (_name, bytes, kind) => {
    for (const family of families) plane.put(`${family === 4 ? '0.0.0.0' : '::'}/0`, { dropUntil: soon() });
    expect(plane.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, kind) });
  });
});

describe('truncation at every byte', () => {
  /** `short`: the kind when the frame ends within the header that follows the link layer. */
  function kindsAt(length: number, link: (typeof links)[number], family: 4 | 6, whole: number): CountKind[] {
    const header = linkLength(link);
    if (length < header) return ['PASS_SHORT_LINK'];
    if (length < header + (family === 4 ? 20 : 40)) return [family === 4 ? 'PASS_SHORT_IPV4' : 'PASS_SHORT_IPV6'];
    return length < whole ? ['DROP_ADDRESS', 'ALSO_MALFORMED'] : ['DROP_ADDRESS'];
  }
  const packets = [
    ['IPv4 TCP', 4, ipv4({ source: attacker[4], protocol: protocol.tcp, payload: tcp(1, 2) })],
    ['IPv4 with options', 4, ipv4({ source: attacker[4], options: Buffer.alloc(40, 1), payload: udp(1, 2) })],
    ['IPv4 fragment', 4, ipv4({ source: attacker[4], fragmentOffset: 8, payload: eight() })],
    ['IPv6 UDP', 6, ipv6({ source: attacker[6], payload: udp(1, 2) })],
    [
      'IPv6 with extension headers',
      6,
      ipv6({
        source: attacker[6],
        next: protocol.hopByHop,
        payload: extension(protocol.fragment, fragment(protocol.tcp, 0, true, tcp(1, 2))),
      }),
    ],
  ] as const;

  it.each(
    packets.flatMap(([name, family, packet]) => links.map((link) => [name, link.name, family, packet, link] as const)),
  )('%s, %s', (_name, _link, family, packet, link) => {
    plane.configure({ sampling: 1 });
    for (const each of families) plane.put(attacker[each], { dropUntil: soon() });
    const whole = frame(family, packet, link);
    for (let length = 14; length <= whole.length; length++) {
      const bytes = whole.subarray(0, length);
      const kinds = kindsAt(length, link, family, whole.length);
      expect(plane.run(bytes), `${length} bytes`).toEqual({
        verdict: kinds[0] === 'DROP_ADDRESS' ? 'drop' : 'pass',
        counts: counted(bytes, ...kinds),
      });
    }
  });

  it.each([
    ['ARP', frameOf(ethertype.arp, Buffer.alloc(28)), 14, 'PASS_NOT_IP'],
    ['ARP in a VLAN', frameOf(ethertype.arp, Buffer.alloc(28), [q]), 18, 'PASS_NOT_IP'],
    ['three tags', frame(4, ipv4({ source: attacker[4] }), { tags: [ad, q, q] }), 22, 'PASS_TAGS'],
    ['PPP LCP', frameOf(ethertype.pppoeSession, pppoeSession(Buffer.of(0xc0, 0x21), eight())), 22, 'PASS_NOT_IP'],
    ['PPPoE discovery', frameOf(ethertype.pppoeDiscovery, eight()), 14, 'PASS_NOT_IP'],
  ] as const)('%s', (_name, whole, linkEnd, kind) => {
    for (let length = 14; length <= whole.length; length++) {
      const bytes = whole.subarray(0, length);
      expect(plane.run(bytes), `${length} bytes`).toEqual({
        verdict: 'pass',
        counts: counted(bytes, length < linkEnd ? 'PASS_SHORT_LINK' : kind),
      });
    }
  });
});

describe('an entry', () => {
  it.each(families)('counts packets, bytes and the last one, IPv%s', (family) => {
    plane.put(attacker[family], { dropUntil: soon() });
    const bytes = plainOf(family);
    const before = monotonicNs();
    for (let i = 0; i < 5; i++) plane.run(bytes);
    const entry = plane.entry(attacker[family]);
    expect(entry).toMatchObject({ packets: 5n, bytes: BigInt(5 * bytes.length) });
    // The coarse clock is at most a tick (10 ms at 100 HZ) behind.
    expect(entry?.lastSeen).toBeGreaterThan(before - 10_000_000n);
    expect(entry?.lastSeen).toBeLessThanOrEqual(monotonicNs());
  });

  const ends = [
    ['neither end', never, never, 'PASS_CLEAN'],
    ['both ended', 'past', 'past', 'PASS_CLEAN'],
    ['drops', 'soon', never, 'DROP_ADDRESS'],
    ['drops for ever', forEver, never, 'DROP_ADDRESS'],
    ['counts', never, 'soon', 'PASS_MONITORED'],
    ['counts for ever', never, forEver, 'PASS_MONITORED'],
    ['drops, and counts longer', 'soon', forEver, 'DROP_ADDRESS'],
    ['drops for ever, and counts', forEver, 'soon', 'DROP_ADDRESS'],
    ['dropped, still counts', 'past', 'soon', 'PASS_MONITORED'],
    ['drops, has counted', 'soon', 'past', 'DROP_ADDRESS'],
  ] as const;
  const at = (end: bigint | 'past' | 'soon') => (end === 'past' ? past() : end === 'soon' ? soon() : end);

  it.each(families.flatMap((family) => ends.map((row) => [family, ...row] as const)))(
    'IPv%s: %s',
    (family, _name, dropUntil, countUntil, kind) => {
      plane.put(attacker[family], { dropUntil: at(dropUntil), countUntil: at(countUntil) });
      const bytes = plainOf(family);
      const counts = counted(bytes, kind);
      expect(plane.run(bytes)).toEqual({ verdict: kind === 'DROP_ADDRESS' ? 'drop' : 'pass', counts });
      expect(plane.entry(attacker[family])?.packets).toBe(kind === 'PASS_CLEAN' ? 0n : 1n);
    },
  );

  it('ends when its time comes, and only then', () => {
    const end = monotonicNs() + 40_000_000n;
    plane.put(attacker[4], { dropUntil: end });
    let verdict = plane.run(plainOf(4)).verdict;
    let last = monotonicNs();
    if (last < end) expect(verdict).toBe('drop');
    // One tick of the coarse clock and the two readings here apart.
    while (verdict === 'drop' && last < end + 1_000_000_000n) {
      ({ verdict } = plane.run(plainOf(4)));
      last = monotonicNs();
    }
    expect(verdict).toBe('pass');
    expect(last).toBeGreaterThanOrEqual(end);
    expect(last).toBeLessThan(end + 100_000_000n);
  });
});

describe('nested entries', () => {
  /** From the exact address to everything. */
  const nests: Readonly<Record<4 | 6, readonly [string, string, string, string]>> = {
    4: [attacker[4], '198.51.100.64/31', '198.51.100.0/24', '0.0.0.0/0'].map((text) =>
      text.replace('.64/31', '.66/31'),
    ) as [string, string, string, string],
    6: [attacker[6], '2001:db8:bad::66/127', '2001:db8::/32', '::/0'],
  };
  const nestsOfPrefixes: typeof nests = {
    4: ['198.51.100.66/31', '198.51.100.64/26', '198.0.0.0/7', '0.0.0.0/0'],
    6: ['2001:db8:bad::66/127', '2001:db8:bad::/64', '2001:db8:bad::/63', '2000::/3'],
  };
  const states = {
    absent: null,
    enforce: { drops: true, counts: false },
    monitor: { drops: false, counts: true },
    both: { drops: true, counts: true },
    expired: { drops: false, counts: false },
  } as const;
  type State = keyof typeof states;
  const allStates = Object.keys(states) as State[];
  /** Every way to give four places one of `choices` each. */
  const arrangements = <T>(choices: readonly T[]): T[][] =>
    choices.flatMap((a) => choices.flatMap((b) => choices.flatMap((c) => choices.map((d) => [a, b, c, d]))));

  function arrange(nest: readonly string[], arrangement: readonly State[]): ModelBlock[] {
    return nest.flatMap((text, index) => {
      const state = states[arrangement[index] ?? 'absent'];
      if (state === null) return [];
      plane.put(text, {
        dropUntil: state.drops ? soon() : past(),
        countUntil: state.counts ? soon() : past(),
      });
      return [{ target: parsePrefix(text), ports: [], ...state }];
    });
  }

  function check(
    family: 4 | 6,
    blocks: readonly ModelBlock[],
    allows: { target: Prefix; live: boolean }[],
    of: string,
  ) {
    const bytes = plainOf(family);
    const expected = expectation(
      { mode: 'enforce', hints: { 4: true, 6: true }, blocks, allows, neverDrop: [] },
      bytes,
    );
    const got = plane.run(bytes);
    expect(got, of).toEqual({ verdict: expected.verdict, counts: counted(bytes, ...expected.kinds) });
    for (const block of blocks) {
      expect(plane.entry(block.target)?.packets, of).toBe(expected.hit.includes(block) ? 1n : 0n);
    }
  }

  const rows = families.flatMap((family) => [
    [`IPv${family}, address and prefixes`, family, nests[family]] as const,
    [`IPv${family}, prefixes`, family, nestsOfPrefixes[family]] as const,
  ]);

  it.each(rows)('every arrangement of states: %s', (_name, family, nest) => {
    for (const arrangement of arrangements(allStates)) {
      plane.clear();
      check(family, arrange(nest, arrangement), [], arrangement.join(' '));
    }
  });

  const allowStates = ['absent', 'live', 'expired'] as const;

  it.each(rows.flatMap((row) => (['enforce', 'monitor', 'expired'] as const).map((state) => [...row, state] as const)))(
    'every arrangement of allows: %s',
    (_name, family, nest, state) => {
      const blocked = nest === nests[family] ? [attacker[family]] : [network[family]];
      for (const arrangement of arrangements(allowStates)) {
        plane.clear();
        const blocks = arrange(blocked, [state]);
        const allows = nest.flatMap((text, index) => {
          const allow = arrangement[index];
          if (allow === undefined || allow === 'absent') return [];
          plane.allow(text, allow === 'live' ? soon() : past());
          return [{ target: parsePrefix(text), live: allow === 'live' }];
        });
        check(family, blocks, allows, arrangement.join(' '));
      }
    },
  );

  it.each(families)('an allow of one address inside a blocked prefix spares only it, IPv%s', (family) => {
    plane.put(network[family], { dropUntil: soon() });
    plane.allow(attacker[family]);
    expect(plane.run(plainOf(family))).toEqual({ verdict: 'pass', counts: counted(plainOf(family), 'PASS_ALLOWED') });
    expect(plane.entry(network[family])?.packets).toBe(0n);
    expect(plane.run(plainOf(family, neighbour[family])).verdict).toBe('drop');
  });

  it.each(families)('the longest chain of ended prefixes is searched to its end, IPv%s', (family) => {
    const bits = family === 4 ? 32 : 128;
    const source = parsePrefix(family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff');
    const at = (length: number): Prefix => {
      const bytes = new Uint8Array(bits / 8);
      for (let bit = 0; bit < length; bit++) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
      return { address: { family, bytes }, length };
    };
    plane.put(source, { countUntil: soon() });
    for (let length = 1; length <= bits; length++) plane.put(at(length), { countUntil: soon() }, { trie: true });
    plane.put(at(0), { dropUntil: soon() }, { trie: true });
    const text = family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';
    const bytes = plainOf(family, text);
    expect(plane.run(bytes)).toEqual({ verdict: 'drop', counts: counted(bytes, 'DROP_PREFIX') });
    for (let length = 0; length <= bits; length++) expect(plane.entry(at(length), { trie: true })?.packets).toBe(1n);

    for (let length = 1; length <= bits; length++) plane.allow(at(length), past());
    expect(plane.run(bytes).verdict).toBe('drop');
    plane.allow(at(0), soon());
    expect(plane.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_ALLOWED') });
  });

  it.each(families)('a corrupted length in a value ends the search, IPv%s', (family) => {
    const bits = family === 4 ? 32 : 128;
    const bytes = plainOf(family);
    for (const lie of [0, 1, 8, 23, 24, 25, 31, 32, 33, 64, 127, 128, 129, 200, 255]) {
      plane.clear();
      plane.put(attacker[family], { countUntil: soon(), prefixLength: lie });
      plane.put(network[family], { countUntil: soon(), prefixLength: lie });
      const monitored = plane.run(bytes);
      expect(monitored, `length ${lie}`).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_MONITORED') });
      // Met at most once for every length that can be asked for.
      expect(plane.entry(network[family])?.packets).toBeLessThanOrEqual(BigInt(bits + 1));

      plane.put(network[family], { dropUntil: soon(), prefixLength: lie });
      expect(plane.run(bytes).verdict, `length ${lie}`).toBe('drop');

      plane.put(network[family], { dropUntil: soon() });
      plane.allow(network[family], past());
      expect(plane.run(bytes).verdict).toBe('drop');
    }
  });

  it.each(families)('prefixes without the hint are not looked at, IPv%s', (family) => {
    plane.put(network[family], { dropUntil: soon() }, { hint: false });
    expect(plane.run(plainOf(family)).verdict).toBe('pass');
    plane.put(network[family === 4 ? 6 : 4], { dropUntil: soon() });
    expect(plane.run(plainOf(family)).verdict, 'the other family’s hint').toBe('pass');
    plane.put(network[family], { dropUntil: soon() });
    expect(plane.run(plainOf(family)).verdict).toBe('drop');
  });

  it.each(families)('an address needs no hint, IPv%s', (family) => {
    plane.put(attacker[family], { dropUntil: soon() });
    expect(plane.hints.load32(layout.hints.members.prefixes[0])).toBe(0);
    expect(plane.run(plainOf(family)).verdict).toBe('drop');
  });
});

describe('the mode', () => {
  const until = { never: () => 0n, past, soon, now: monotonicNs };
  const rows = [
    [mode.MODE_ENFORCE, 'never', mode.MODE_OFF, 'DROP_ADDRESS'],
    [mode.MODE_MONITOR, 'never', mode.MODE_ENFORCE, 'PASS_MODE_MONITOR'],
    [mode.MODE_OFF, 'never', mode.MODE_ENFORCE, 'PASS_MODE_OFF'],
    [mode.MODE_MONITOR, 'soon', mode.MODE_ENFORCE, 'PASS_MODE_MONITOR'],
    [mode.MODE_MONITOR, 'past', mode.MODE_ENFORCE, 'DROP_ADDRESS'],
    [mode.MODE_OFF, 'soon', mode.MODE_ENFORCE, 'PASS_MODE_OFF'],
    [mode.MODE_OFF, 'past', mode.MODE_ENFORCE, 'DROP_ADDRESS'],
    [mode.MODE_ENFORCE, 'past', mode.MODE_MONITOR, 'PASS_MODE_MONITOR'],
    [mode.MODE_ENFORCE, 'past', mode.MODE_OFF, 'PASS_MODE_OFF'],
    [mode.MODE_ENFORCE, 'soon', mode.MODE_OFF, 'DROP_ADDRESS'],
  ] as const;

  it.each(families.flatMap((family) => rows.map((row) => [family, ...row] as const)))(
    'IPv%s: mode %s, deadline %s, then %s: %s',
    (family, now, deadline, modeAfter, kind) => {
      plane.put(attacker[family], { dropUntil: soon() });
      plane.configure({ mode: now, deadline: until[deadline](), modeAfter });
      const bytes = plainOf(family);
      expect(plane.run(bytes)).toEqual({
        verdict: kind === 'DROP_ADDRESS' ? 'drop' : 'pass',
        counts: counted(bytes, kind),
      });
      expect(plane.entry(attacker[family])?.packets).toBe(kind === 'PASS_MODE_OFF' ? 0n : 1n);
    },
  );

  it('monitor leaves other kinds as they are', () => {
    plane.configure({ mode: mode.MODE_MONITOR });
    plane.put(attacker[4], { countUntil: soon() });
    expect(plane.run(plainOf(4)).counts).toEqual(counted(plainOf(4), 'PASS_MONITORED'));
    expect(plane.run(plainOf(4, neighbour[4])).counts).toEqual(counted(plainOf(4), 'PASS_CLEAN'));
    plane.put(neighbour[4], { dropUntil: soon() });
    plane.allow(neighbour[4]);
    expect(plane.run(plainOf(4, neighbour[4])).counts).toEqual(counted(plainOf(4), 'PASS_ALLOWED'));
  });

  it('off looks at nothing, not even at rubbish', () => {
    plane.configure({ mode: mode.MODE_OFF });
    for (const bytes of [plainOf(4).subarray(0, 14), plainOf(6).subarray(0, 20), frameOf(ethertype.arp, eight())]) {
      expect(plane.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_MODE_OFF') });
    }
  });
});

describe('the skew', () => {
  it.each(families)('moves the ends of blocks and not those of allows, IPv%s', (family) => {
    plane.put(attacker[family], { dropUntil: soon() });
    const run = () => plane.run(plainOf(family)).verdict;
    expect(run()).toBe('drop');
    plane.skew(2n * hour);
    expect(run(), 'two hours later in a suspended machine').toBe('pass');
    plane.skew(0n);
    expect(run()).toBe('drop');
    plane.put(attacker[family], { dropUntil: monotonicNs() + 3n * hour });
    plane.skew(2n * hour);
    expect(run()).toBe('drop');
    expect(plane.entry(attacker[family])?.lastSeen).toBeGreaterThan(monotonicNs() + 2n * hour - 1_000_000_000n);

    plane.allow(attacker[family], soon());
    expect(run(), 'an allow of one hour, in clock time').toBe('pass');
    plane.allow(attacker[family], past());
    expect(run()).toBe('drop');
  });

  it('does not move the mode’s deadline', () => {
    plane.put(attacker[4], { dropUntil: forEver });
    plane.configure({ mode: mode.MODE_OFF, deadline: soon() });
    plane.skew(2n * hour);
    expect(plane.run(plainOf(4)).counts).toEqual(counted(plainOf(4), 'PASS_MODE_OFF'));
  });
});

describe('samples', () => {
  const hex = { attacker4: 'c6336442', here4: 'c0000201' };

  it('come at the first hit of an entry and at powers of two', () => {
    plane.configure({ sampling: 1 });
    plane.put(attacker[4], { dropUntil: soon() });
    for (let i = 0; i < 40; i++) plane.run(plainOf(4));
    expect(plane.samples().map(({ packets }) => Number(packets))).toEqual([1, 2, 4, 8, 16, 32]);
  });

  it('tell what was dropped', () => {
    plane.configure({ sampling: 1 });
    plane.put(attacker[4], { dropUntil: soon() });
    const before = monotonicNs();
    plane.run(plainOf(4));
    const [sample, ...more] = plane.samples();
    expect(more).toEqual([]);
    expect(sample).toEqual({
      at: expect.any(BigInt),
      packets: 1n,
      ifindex: expect.any(Number),
      length: plainOf(4).length,
      family: 4,
      protocol: protocol.tcp,
      kind: 'DROP_ADDRESS',
      prefixLength: 32,
      sourcePort: 40000,
      destinationPort: 22,
      source: hex.attacker4,
      destination: hex.here4,
    });
    expect(sample?.at).toBeGreaterThan(before - 10_000_000n);
    expect(sample?.at).toBe(plane.entry(attacker[4])?.lastSeen);
  });

  it.each([
    ['DROP_PREFIX', 24, { dropUntil: forEver }, mode.MODE_ENFORCE],
    ['PASS_MONITORED', 24, { countUntil: forEver }, mode.MODE_ENFORCE],
    ['PASS_MODE_MONITOR', 24, { dropUntil: forEver }, mode.MODE_MONITOR],
  ] as const)('of kind %s', (kind, prefixLength, value, now) => {
    plane.configure({ sampling: 1, mode: now });
    plane.put(network[4], value);
    plane.run(plainOf(4));
    expect(plane.samples()).toMatchObject([{ kind, prefixLength, source: hex.attacker4 }]);
  });

  it('come from every live entry that was met', () => {
    plane.configure({ sampling: 1 });
    plane.put(attacker[4], { countUntil: soon() });
    plane.put(network[4], { dropUntil: soon() });
    plane.run(plainOf(4));
    expect(plane.samples()).toMatchObject([
      { kind: 'PASS_MONITORED', prefixLength: 32 },
      { kind: 'DROP_PREFIX', prefixLength: 24 },
    ]);
  });

  const source = attacker[4];
  it.each([
    ['UDP', 4, ipv4({ source, payload: udp(53, 5353) }), 53, 5353],
    ['options shift the ports', 4, ipv4({ source, options: eight(), payload: udp(53, 5353) }), 53, 5353],
    ['a first fragment', 4, ipv4({ source, moreFragments: true, payload: udp(53, 5353) }), 53, 5353],
    ['a later fragment has none', 4, ipv4({ source, fragmentOffset: 8, payload: udp(53, 5353) }), 0, 0],
    ['ICMP has none', 4, ipv4({ source, protocol: protocol.icmp, payload: eight(8) }), 0, 0],
    ['SCTP has none here', 4, ipv4({ source, protocol: protocol.sctp, payload: eight() }), 0, 0],
    ['cut after the header', 4, ipv4({ source, totalLength: 28 }), 0, 0],
    ['cut within the ports', 4, ipv4({ source, totalLength: 28, payload: Buffer.of(1, 2, 3) }), 0, 0],
    ['ihl below the header has none', 4, ipv4({ source, ihl: 0, payload: udp(53, 5353) }), 0, 0],
    ['ihl beyond the frame', 4, ipv4({ source, ihl: 15, payload: udp(53, 5353) }), 0, 0],
    ['IPv6', 6, ipv6({ source: attacker[6], payload: udp(53, 5353) }), 53, 5353],
    ['behind an extension header', 6, ipv6({ source: attacker[6], next: 0, payload: extension(17, udp(5, 6)) }), 0, 0],
  ] as const)('carry ports: %s', (_name, family, packet, sourcePort, destinationPort) => {
    plane.configure({ sampling: 1 });
    for (const link of links) {
      plane.put(attacker[family], { dropUntil: soon() });
      plane.run(frame(family, packet, link));
      expect(plane.samples(), link.name).toMatchObject([{ family, sourcePort, destinationPort }]);
    }
  });

  it('IPv6 addresses whole', () => {
    plane.configure({ sampling: 1 });
    plane.put(network[6], { dropUntil: soon() });
    plane.run(plainOf(6));
    expect(plane.samples()).toMatchObject([
      {
        source: '20010db80bad00000000000000000066',
        destination: '20010db8000000000000000000000001',
        prefixLength: 48,
      },
    ]);
  });

  it('are not made with sampling off', () => {
    plane.put(attacker[4], { dropUntil: soon() });
    plane.run(plainOf(4));
    expect(plane.samples()).toEqual([]);
  });

  it('that find the ring full are counted, and the packet is dropped all the same', () => {
    plane.configure({ sampling: 1 });
    const bytes = plainOf(4);
    const ring = 256 * 1024;
    // A record has a header of 8 bytes.
    const room = Math.floor(ring / (layout.sample.size + 8));
    let stored = 0;
    for (;;) {
      plane.put(attacker[4], { dropUntil: soon() });
      const { verdict, counts } = plane.run(bytes);
      expect(verdict).toBe('drop');
      if (counts.ALSO_SAMPLE_LOST !== undefined) {
        expect(counts).toEqual(counted(bytes, 'DROP_ADDRESS', 'ALSO_SAMPLE_LOST'));
        break;
      }
      stored++;
      expect(stored).toBeLessThanOrEqual(room);
    }
    expect(stored).toBeGreaterThan(room - 2);
    expect(plane.samples()).toHaveLength(stored);
  });
});

describe('slots', () => {
  it('keep interfaces apart', () => {
    const last = openPlane({ slot: 63 });
    try {
      const bytes = plainOf(4);
      expect(last.run(bytes)).toEqual({ verdict: 'pass', counts: counted(bytes, 'PASS_CLEAN') });
      const size = layout.total.size;
      let packets = 0n;
      for (let row = 0; row < 63 * 14; row++) {
        const key = Buffer.alloc(4);
        key.writeUInt32LE(row);
        const values = last.map('counters').lookup(key) ?? Buffer.alloc(0);
        for (let at = 0; at < values.length; at += size) packets += values.readBigUInt64LE(at);
      }
      expect(packets).toBe(0n);
    } finally {
      last.close();
    }
  });
});

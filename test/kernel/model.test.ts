/**
 * States and packets at random: the program must do what the model of the laws says, counters included.
 * FUZZ_RUNS sets how many (default 2000); a failure prints its seed, which FUZZ_SEED takes.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Address, bitsOf } from '../../src/address/address.ts';
import type { Ports } from '../../src/address/port.ts';
import { formatPrefix, maskPrefix, type Prefix } from '../../src/address/prefix.ts';
import { forEver, mode, never } from '../../src/kernel/layout.ts';
import { expectation, type ModelBlock, type ModelState } from './model.ts';
import { ethertype, frame, frameOf, ipv4, ipv6, links, traffic } from './packets.ts';
import { hour, openPlane, type Plane, past, soon } from './plane.ts';

const runs = Number(process.env.FUZZ_RUNS ?? 2000);
const seed = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };

let plane: Plane;
beforeAll(() => {
  plane = openPlane();
});
afterAll(() => plane.close());

const home: Readonly<Record<4 | 6, Uint8Array>> = {
  4: Uint8Array.of(198, 51, 100, 66),
  6: Uint8Array.from(Buffer.from('20010db80bad00000000000000000066', 'hex')),
};

/** Home with at most two bits flipped: near enough that prefixes of it nest, part, and just miss. */
const addressArbitrary: fc.Arbitrary<Address> = fc
  .tuple(fc.constantFrom<4 | 6>(4, 6), fc.array(fc.nat({ max: 127 }), { maxLength: 2 }))
  .map(([family, flips]) => {
    const bytes = Uint8Array.from(home[family]);
    for (const flip of flips) {
      const bit = flip % bitsOf(family);
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
    }
    return { family, bytes };
  });

const targetArbitrary: fc.Arbitrary<Prefix> = fc
  .tuple(addressArbitrary, fc.oneof(fc.nat({ max: 128 }), fc.constantFrom(0, 8, 24, 31, 32, 48, 64, 127, 128)))
  .map(([address, length]) => maskPrefix(address, Math.min(length, bitsOf(address.family))));

const endArbitrary = fc.constantFrom<'never' | 'past' | 'soon' | 'for ever'>('never', 'past', 'soon', 'for ever');
type End = 'never' | 'past' | 'soon' | 'for ever';
const isLive = (end: End) => end === 'soon' || end === 'for ever';

/** Of what the packets are for, and of what they are not. */
const portsArbitrary: fc.Arbitrary<Ports> = fc.uniqueArray(
  fc.record({ protocol: fc.constantFrom(6, 17, 132, 136), number: fc.constantFrom(22, 53, 443, 2222, 0xa5a5) }),
  { maxLength: 16, selector: ({ protocol, number }) => `${protocol}/${number}` },
);
const rowArbitrary = fc.constantFrom(0, 0, 1, 2);

const stateArbitrary = fc.record({
  blocks: fc.uniqueArray(
    fc.record({ target: targetArbitrary, drop: endArbitrary, count: endArbitrary, row: rowArbitrary }),
    {
      maxLength: 8,
      selector: ({ target }) => formatPrefix(target),
    },
  ),
  allows: fc.uniqueArray(fc.record({ target: targetArbitrary, end: endArbitrary }), {
    maxLength: 3,
    selector: ({ target }) => formatPrefix(target),
  }),
  mode: fc.constantFrom<ModelState['mode']>('enforce', 'enforce', 'enforce', 'monitor', 'off'),
  modeAfter: fc.constantFrom<ModelState['mode']>('enforce', 'monitor', 'off'),
  deadline: fc.constantFrom<'never' | 'past' | 'soon'>('never', 'never', 'past', 'soon'),
  hints: fc.record({ 4: fc.constantFrom(true, true, false), 6: fc.constantFrom(true, true, false) }),
  /** Hours of suspend: blocks' ends lie that much later, allows' do not. */
  skewHours: fc.nat({ max: 3 }),
  sampling: fc.nat({ max: 1 }),
  /** Ports of the rows of scopes from 1 on. */
  scopes: fc.tuple(portsArbitrary, portsArbitrary),
  neverDrop: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: portsArbitrary }),
});
type Drawn = typeof stateArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** A well-formed or lying packet, in what the program sees through or not, whole, padded or cut; sometimes mere bytes. */
const frameArbitrary: fc.Arbitrary<Uint8Array> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc
      .record({
        source: addressArbitrary,
        kind: fc.nat({ max: 1000 }),
        link: fc.oneof(
          fc.constantFrom(...links),
          fc.record({
            name: fc.constant('any tags'),
            tags: fc.array(fc.constantFrom<number>(ethertype.dot1q, ethertype.dot1ad), { maxLength: 4 }),
          }),
        ),
        cut: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: -30, max: 100 })),
        flip: fc.option(fc.tuple(fc.nat({ max: 200 }), fc.integer({ min: 1, max: 255 })), { freq: 5, nil: undefined }),
      })
      .map(({ source, kind, link, cut, flip }) => {
        const kinds = traffic.filter(({ family }) => family === source.family);
        const packet = Buffer.from(kinds[kind % kinds.length]?.packet(text(source)) ?? []);
        let bytes: Uint8Array = frame(source.family, packet, link);
        if (cut < 0) bytes = Buffer.concat([bytes, Buffer.alloc(-cut)]);
        if (cut > 0) bytes = bytes.subarray(0, Math.max(14, bytes.length - cut));
        // Past the MAC addresses: a bit of type, tag, PPPoE or IP header.
        const at = flip === undefined ? 0 : 12 + (flip[0] % Math.max(1, bytes.length - 12));
        if (flip !== undefined && at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ flip[1];
        return bytes;
      }),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({
        type: fc.oneof(fc.constantFrom<number>(...Object.values(ethertype)), fc.nat({ max: 0xffff })),
        rest: fc.uint8Array({ maxLength: 120 }),
      })
      .map(({ type, rest }) => frameOf(type, rest)),
  },
);

function text(address: Address): string {
  return formatPrefix({ address, length: bitsOf(address.family) });
}

function setUp(drawn: Drawn): ModelState {
  plane.clear();
  const suspended = BigInt(drawn.skewHours) * hour;
  const at = (end: End, skew: bigint) =>
    end === 'never' ? never : end === 'for ever' ? forEver : (end === 'soon' ? soon() : past()) + skew;
  plane.skew(suspended);
  plane.configure({
    mode: modes[drawn.mode],
    modeAfter: modes[drawn.modeAfter],
    deadline: at(drawn.deadline, 0n),
    sampling: drawn.sampling,
    neverDrop: drawn.neverDrop,
  });
  for (const [index, ports] of drawn.scopes.entries()) plane.scope(index + 1, ports);
  for (const block of drawn.blocks) {
    plane.put(
      block.target,
      { dropUntil: at(block.drop, suspended), countUntil: at(block.count, suspended), scope: block.row },
      { hint: false },
    );
  }
  for (const allow of drawn.allows) plane.allow(allow.target, at(allow.end, 0n));
  plane.hints.store32(8, (drawn.hints[4] ? 1 : 0) | (drawn.hints[6] ? 2 : 0));
  return {
    mode: drawn.deadline === 'past' ? drawn.modeAfter : drawn.mode,
    hints: drawn.hints,
    blocks: drawn.blocks.map(({ target, drop, count, row }) => ({
      target,
      drops: isLive(drop),
      counts: isLive(count),
      ports: drawn.scopes[row - 1] ?? [],
    })),
    neverDrop: drawn.neverDrop,
    allows: drawn.allows.map(({ target, end }) => ({ target, live: isLive(end) })),
  };
}

const modes = { enforce: mode.MODE_ENFORCE, monitor: mode.MODE_MONITOR, off: mode.MODE_OFF } as const;

describe('the program and the model of the laws', () => {
  it(`agree on ${runs} states, six packets each`, () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(stateArbitrary, fc.array(frameArbitrary, { minLength: 6, maxLength: 6 }), (drawn, frames) => {
        const state = setUp(drawn);
        const hits = new Map<ModelBlock, { packets: bigint; bytes: bigint }>();
        for (const bytes of frames) {
          const expected = expectation(state, bytes);
          const { verdict, counts } = plane.run(bytes);
          expect({ verdict, counts }).toEqual({
            verdict: expected.verdict,
            counts: Object.fromEntries(expected.kinds.map((kind) => [kind, { packets: 1, bytes: bytes.length }])),
          });
          for (const kind of expected.kinds) seen.add(kind);
          for (const block of expected.hit) {
            const { packets, bytes: sum } = hits.get(block) ?? { packets: 0n, bytes: 0n };
            hits.set(block, { packets: packets + 1n, bytes: sum + BigInt(bytes.length) });
          }
        }
        for (const block of state.blocks) {
          expect(plane.entry(block.target), formatPrefix(block.target)).toMatchObject(
            hits.get(block) ?? { packets: 0n, bytes: 0n, lastSeen: 0n },
          );
        }
      }),
      { numRuns: runs, ...seed },
    );
    // A generator that stopped reaching a kind would make the agreement worthless.
    if (runs >= 1000) {
      expect([...seen].sort()).toEqual(
        [
          'ALSO_MALFORMED',
          'DROP_ADDRESS',
          'DROP_PREFIX',
          'PASS_ALLOWED',
          'PASS_CLEAN',
          'PASS_MODE_MONITOR',
          'PASS_MODE_OFF',
          'PASS_MONITORED',
          'PASS_NEVER_DROP',
          'PASS_NOT_IP',
          'PASS_OTHER_PORT',
          'PASS_SHORT_IPV4',
          'PASS_SHORT_IPV6',
          'PASS_SHORT_LINK',
          'PASS_TAGS',
        ].sort(),
      );
    }
  });

  it('are two: the model tells a blocked source from a neighbour', () => {
    const blocked: ModelBlock = {
      target: { address: { family: 4, bytes: home[4] }, length: 32 },
      drops: true,
      counts: false,
      ports: [],
    };
    const state: ModelState = {
      mode: 'enforce',
      hints: { 4: true, 6: true },
      blocks: [blocked],
      allows: [],
      neverDrop: [],
    };
    expect(expectation(state, frame(4, ipv4({ source: '198.51.100.66' }))).verdict).toBe('drop');
    expect(expectation(state, frame(4, ipv4({ source: '198.51.100.67' }))).verdict).toBe('pass');
    expect(expectation(state, frame(6, ipv6({ source: '::198.51.100.66' }))).verdict).toBe('pass');
  });
});

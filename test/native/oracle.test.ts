/**
 * Independent readers: what falcodrop wrote, read by bpftool and by libbpf without our addon (ffi-napi), is what falcodrop
 * reads. Random targets, ends, owners and ports.
 */
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bitsOf } from '../../src/address/address.ts';
import { formatPrefix, maskPrefix, type Prefix } from '../../src/address/prefix.ts';
import { attach } from '../../src/kernel/attach.ts';
import { encodeBlock, forEver, keyOf, layout, never } from '../../src/kernel/layout.ts';
import { type BlockMapName, blockMapNames, mapNameOf, PinnedSet } from '../../src/kernel/set.ts';
import { type Lab, withLab } from '../kernel/lab.ts';

const oracle = join(import.meta.dirname, 'fixtures/oracle.cjs');

/** Null when the optional library works here, else why not. */
function libraryMissing(): string | null {
  try {
    // In a process of its own: one that does not fit this Node may end it.
    const path = createRequire(import.meta.url).resolve('ffi-napi');
    execFileSync(process.execPath, ['-e', `require(${JSON.stringify(path)}).Library('libbpf.so.1', {})`], {
      stdio: 'ignore',
    });
    return null;
  } catch {
    return 'optional: ffi-napi is not installed, or does not work with this Node';
  }
}

interface Written {
  readonly target: Prefix;
  readonly ends: { dropUntil: bigint; countUntil: bigint; action: number; owners: number; scope: number };
}

const endArbitrary = fc.oneof(fc.constantFrom(never, forEver), fc.bigInt({ min: 1n, max: 2n ** 63n }));
const targetArbitrary = fc
  .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.constantFrom<4 | 6>(4, 6), fc.nat({ max: 128 }))
  .map(([bytes, family, length]) =>
    maskPrefix(
      { family, bytes: Uint8Array.from(bytes.subarray(0, bitsOf(family) / 8)) },
      Math.min(length, bitsOf(family)),
    ),
  );
const writtenArbitrary: fc.Arbitrary<Written[]> = fc.uniqueArray(
  fc.record({
    target: targetArbitrary,
    ends: fc.record({
      dropUntil: endArbitrary,
      countUntil: endArbitrary,
      action: fc.constant(0),
      owners: fc.nat({ max: 7 }),
      scope: fc.nat({ max: 255 }),
    }),
  }),
  { minLength: 200, maxLength: 300, selector: ({ target }) => formatPrefix(target), size: 'max' },
);

type Elements = Map<string, string>;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function fill(set: PinnedSet, written: readonly Written[]): Map<BlockMapName, Elements> {
  const expected = new Map<BlockMapName, Elements>(blockMapNames.map((name) => [name, new Map()]));
  for (const { target, ends } of written) {
    expect(set.insert(target, ends)).toBe(true);
    const value = encodeBlock({ ...ends, prefixLength: target.length, packets: 0n, bytes: 0n, lastSeen: 0n });
    expected.get(mapNameOf(target))?.set(hex(keyOf(target)), hex(value));
  }
  return expected;
}

function byBpftool(lab: Lab, name: string): Elements {
  const dumped = JSON.parse(
    lab.exec(null, 'bpftool', '-j', 'map', 'dump', 'pinned', `${lab.pinDir}/current/${name}`),
  ) as {
    key: string[];
    value: string[];
  }[];
  return new Map(
    dumped.map(({ key, value }) => [hex(Uint8Array.from(key, Number)), hex(Uint8Array.from(value, Number))]),
  );
}

function byLibbpf(lab: Lab, name: string, keySize: number): Elements {
  const pin = `${lab.pinDir}/current/${name}`;
  const lines = lab.exec(null, process.execPath, oracle, pin, `${keySize}`, `${layout.block.size}`).trim();
  return new Map(lines === '' ? [] : lines.split('\n').map((line) => line.split(' ') as [string, string]));
}

const keySizes: Readonly<Record<BlockMapName, number>> = {
  blocked_v4: 4,
  blocked_v6: 16,
  blocked_cidr_v4: layout.cidr_v4.size,
  blocked_cidr_v6: layout.cidr_v6.size,
};

const sorted = (elements: Elements | undefined): [string, string][] => [...(elements ?? [])].sort();

async function withEntries(read: (lab: Lab, name: BlockMapName) => Elements): Promise<void> {
  await withLab(async (lab) => {
    const { a } = lab.veth({ name: 'a' }, { name: 'b' });
    await attach(lab.pinDir, [a], { mode: 'auto', sizes: {}, service: { uid: 0, gid: 0 } });
    const set = new PinnedSet(lab.pinDir);
    const [written = []] = fc.sample(writtenArbitrary, 1);
    const expected = fill(set, written);
    for (const name of blockMapNames) {
      expect(sorted(read(lab, name)), name).toEqual(sorted(expected.get(name)));
      const own = [...set.entries(name)].map(({ target, value }): [string, string] => [
        hex(keyOf(target)),
        hex(encodeBlock(value)),
      ]);
      expect(own.sort(), name).toEqual(sorted(expected.get(name)));
    }
    set.close();
  });
}

it('bpftool reads what is written', () => withEntries(byBpftool));

it('libbpf, called without the addon, reads what is written', (context) => {
  const missing = libraryMissing();
  if (missing !== null) return context.skip(missing);
  return withEntries((lab, name) => byLibbpf(lab, name, keySizes[name]));
});

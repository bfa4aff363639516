/** docs/map-abi.md against what the compiler made of bpf/abi.h, and against what `map check` expects of pins. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { expectedMaps, expectedPrograms } from '../../src/kernel/inspect.ts';
import * as generated from '../../src/kernel/layout.generated.ts';

const page = readFileSync('docs/map-abi.md', 'utf8');
const header = readFileSync('bpf/abi.h', 'utf8');
const mapsHeader = readFileSync('bpf/maps.h', 'utf8');

/** Cells of the table's rows below a heading or before the next one, without backticks. */
function rowsOf(section: string): string[][] {
  return section
    .split('\n')
    .filter((line) => line.startsWith('|') && !line.startsWith('|---'))
    .slice(1)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('`', '')),
    );
}

function sectionOf(heading: string): string {
  const start = page.indexOf(`\n${heading}`);
  if (start < 0) throw new Error(`docs/map-abi.md has no ${JSON.stringify(heading)}`);
  const from = page.indexOf('\n', start + 1);
  const next = page.slice(from).search(/\n#{2,3} /);
  return next < 0 ? page.slice(from) : page.slice(from, from + next);
}

const names = (kind: 'struct' | 'enum'): string[] =>
  [...header.matchAll(new RegExp(`^${kind} (\\w+) \\{`, 'gm'))].map(([, name]) => name ?? '');

/** Enumerators with their numbers, from the header's text: the object's BTF has only those that are used. */
function enumOf(name: string): Record<string, number> {
  const body = new RegExp(`^enum ${name} \\{(.*?)^\\};`, 'ms').exec(header)?.[1] ?? '';
  const values: Record<string, number> = {};
  let next = 0;
  for (const [, key = '', shift, plain] of body
    .replaceAll(/\/\*.*?\*\//gs, '')
    .matchAll(/(\w+)(?:\s*=\s*(?:1 << (\d+)|(\d+)))?\s*,/g)) {
    if (shift !== undefined) next = 1 << Number(shift);
    if (plain !== undefined) next = Number(plain);
    values[key] = next++;
  }
  return values;
}

describe('docs/map-abi.md', () => {
  test.each(names('struct'))('struct %s', (name) => {
    const { size, members } = generated.layout[name as keyof typeof generated.layout];
    const rows = rowsOf(sectionOf(`### \`struct ${name}\` (${size} bytes)`));
    expect(rows.map(([offset, bytes, member]) => [member, Number(offset), Number(bytes)])).toEqual(
      Object.entries(members).map(([member, [offset, bytes]]) => [member, offset, bytes]),
    );
  });

  test.each(names('enum'))('enum %s', (name) => {
    const rows = rowsOf(sectionOf(`### \`enum ${name}\``));
    const told = Object.fromEntries(rows.map(([value, key]) => [key, Number(value)]));
    expect(told).toEqual(enumOf(name));
    const compiled = (generated as Record<string, unknown>)[name];
    if (compiled !== undefined) expect(told).toEqual(compiled);
  });

  test('constants', () => {
    const told = rowsOf(sectionOf('## Which version'));
    for (const [name = '', value] of told) {
      expect([name, Number(value)]).toEqual([name, (generated as Record<string, unknown>)[name]]);
    }
    expect(told).toHaveLength(5);
    expect(page).toContain(`its \`format\` is **${generated.FALCODROP_FORMAT}**`);
  });

  test('maps and programs', () => {
    const rows = rowsOf(sectionOf('## Maps'));
    const programs = rows.findIndex(([name]) => name === 'program');
    const maps = rows.slice(0, programs);
    expect(maps.map(([name]) => name)).toEqual(Object.keys(expectedMaps));
    for (const [name = '', type, , , bytes, entries, flags, who, mode] of maps) {
      const expected = expectedMaps[name];
      expect([name, type]).toEqual([name, expected?.type]);
      expect([name, bytes]).toEqual([name, `${expected?.key}, ${expected?.value}`]);
      expect([name, flags]).toEqual([name, expected?.flags.join(' ')]);
      expect([name, who, mode]).toEqual(
        expected?.writable === true ? [name, 'service', '0660'] : [name, 'root', '0640'],
      );
      if (expected?.entries !== null) expect([name, entries]).toEqual([name, `${expected?.entries}`]);
    }
    const sizes = Object.fromEntries(maps.map(([name, , , , , entries]) => [name, entries]));
    expect(sizes.allowed_cidr_v4).toBe(/#define MAX_ALLOWS\s+(\d+)/.exec(mapsHeader)?.[1]);
    const [, count, unit] = /#define SAMPLE_BYTES\s+\((\d+) \* (\d+)\)/.exec(mapsHeader) ?? [];
    expect(Number(sizes.drop_samples)).toBe(Number(count) * Number(unit));
    expect(rows.slice(programs + 1).map(([name, type]) => [name, type])).toEqual(Object.entries(expectedPrograms));
  });

  // A trie's node is: pointers and eight bytes, the key's address, the value. A counter across two cache lines locks the bus.
  test.each(['cidr_v4', 'cidr_v6'] as const)(
    "what follows struct %s in a trie's node begins on eight bytes",
    (name) => {
      const { size, members } = generated.layout[name];
      expect((size - members.address[0]) % 8).toBe(0);
      for (const [offset, bytes] of Object.values(generated.layout.block.members)) {
        if (bytes === 8) expect(offset % 8).toBe(0);
      }
    },
  );

  test('every heading is of something that there is', () => {
    const told = [...page.matchAll(/^### `(struct|enum) (\w+)`/gm)].map(([, kind, name]) => `${kind} ${name}`);
    const there = [...names('struct').map((name) => `struct ${name}`), ...names('enum').map((name) => `enum ${name}`)];
    expect(told.toSorted()).toEqual(there.toSorted());
    expect(there.length).toBeGreaterThan(15);
  });
});

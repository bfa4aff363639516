import { afterAll, beforeAll, expect, test } from 'vitest';
import { native } from '../../src/kernel/native.ts';
import { json, type Lab, openLab, refusal, u32 } from './lab.ts';

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.close());

function opened() {
  return native().openObject(lab.objectBytes, 'objects');
}

test('an object lists what was declared, and only that', () => {
  const object = opened();
  const maps = object.maps().toSorted((a, b) => a.name.localeCompare(b.name));
  expect(maps).toEqual([
    { name: 'hash', type: 1, keySize: 4, valueSize: 16, maxEntries: 8 },
    { name: 'percpu', type: 6, keySize: 4, valueSize: 4, maxEntries: 2 },
    { name: 'ring', type: 27, keySize: 0, valueSize: 0, maxEntries: 65536 },
    { name: 'trie', type: 11, keySize: 8, valueSize: 8, maxEntries: 4 },
    { name: 'words', type: 2, keySize: 4, valueSize: 8, maxEntries: 4 },
  ]);
  expect(object.programs()).toContainEqual({ name: 'on_packet', section: 'xdp', type: 6 });
  expect(object.programs()).toContainEqual({ name: 'emit', section: 'syscall', type: 31 });
  expect(object.programs()).toContainEqual({ name: 'length', section: 'socket', type: 1 });
  object.close();
});

test('layouts and enumerators come from BTF; anonymous members are lifted, named ones stay whole', () => {
  const object = opened();
  expect(object.structLayout('entry')).toEqual({
    size: 16,
    members: [
      { name: 'ends_at', offset: 0, size: 8 },
      { name: 'flags', offset: 8, size: 4 },
      { name: 'bytes', offset: 8, size: 4 },
      { name: 'pair', offset: 12, size: 4 },
    ],
  });
  expect(object.structLayout('inner').members.map((member) => member.offset)).toEqual([0, 2]);
  expect(object.enumValues('reason')).toEqual({ REASON_NONE: 0, REASON_BLOCKED: 7, REASON_LAST: 8 });
  expect(refusal(() => object.structLayout('reason')).code).toBe('ENOENT');
  expect(refusal(() => object.enumValues('entry')).code).toBe('ENOENT');
  object.close();
});

test('sizes, .rodata and program flags are set before load, and refused after', () => {
  const object = opened();
  object.setMaxEntries('hash', 33);
  object.setRodata('verdict', u32(4));
  object.addProgramFlags('on_packet', 1 << 5);
  object.addProgramFlags('on_packet', 0);
  object.load();
  expect(object.map('hash').info).toMatchObject({ name: 'hash', maxEntries: 33, frozen: false });
  expect(object.program('on_packet').testRun({ data: new Uint8Array(64) }).returnValue).toBe(4);
  const late: Record<string, () => void> = {
    setMaxEntries: () => object.setMaxEntries('hash', 5),
    setRodata: () => object.setRodata('verdict', u32(1)),
    setAutoload: () => object.setAutoload('refused', true),
    addProgramFlags: () => object.addProgramFlags('mark', 1),
    load: () => object.load(),
  };
  for (const [operation, call] of Object.entries(late))
    expect(refusal(call)).toMatchObject({ operation, code: 'EBUSY' });
  object.close();
});

test('unknown names are ENOENT, and say the name', () => {
  const object = opened();
  const calls: Record<string, () => void> = {
    setMaxEntries: () => object.setMaxEntries('nowhere', 5),
    setRodata: () => object.setRodata('nowhere', u32(1)),
    setAutoload: () => object.setAutoload('nowhere', true),
    addProgramFlags: () => object.addProgramFlags('nowhere', 1),
  };
  for (const [operation, call] of Object.entries(calls)) {
    const error = refusal(call);
    expect(error).toMatchObject({ operation, errno: 2, code: 'ENOENT' });
    expect(error.message).toContain('nowhere');
  }
  expect(refusal(() => object.map('hash')).code).toBe('EINVAL'); // not loaded yet
  object.load();
  expect(refusal(() => object.map('nowhere')).code).toBe('ENOENT');
  expect(refusal(() => object.program('nowhere')).code).toBe('ENOENT');
  expect(refusal(() => object.program('refused')).code).toBe('ENOENT'); // not loaded by default
  object.close();
});

test("a program that the verifier refuses brings the end of the verifier's log", () => {
  const object = opened();
  object.setAutoload('refused', true);
  const error = refusal(() => object.load());
  expect(error).toMatchObject({ operation: 'load', code: 'EACCES' });
  expect(error.log).toContain('invalid access to packet');
  expect(error.log?.length).toBeLessThanOrEqual(16 * 1024);
  expect(refusal(() => object.map('hash')).code).toBe('EINVAL');
  object.close();
});

test('reuse of an existing map: the same map, its own size; another layout is refused, naming what differs', () => {
  const first = lab.loaded();
  const hash = first.map('hash');
  const second = opened();
  second.setMaxEntries('hash', 99);
  second.reuseMap('hash', hash);
  second.load();
  expect(second.map('hash').info).toMatchObject({ id: hash.info.id, maxEntries: 8 });

  const third = opened();
  for (const [name, other, what] of [
    ['hash', first.map('trie'), 'type'],
    ['trie', hash, 'type'],
    ['words', first.map('percpu'), 'type'],
  ] as const) {
    const error = refusal(() => third.reuseMap(name, other));
    expect(error).toMatchObject({ operation: 'reuseMap', code: 'EINVAL' });
    expect(error.message).toContain(`parameter mismatch: ${what}`);
  }
  second.close();
  third.close();
});

test('handles outlive their object', () => {
  const object = opened();
  object.load();
  const map = object.map('hash');
  const program = object.program('on_packet');
  object.close();
  map.update(u32(1), new Uint8Array(16));
  expect(map.lookup(u32(1))).toHaveLength(16);
  expect(program.testRun({ data: new Uint8Array(64) }).returnValue).toBe(2);
  map.close();
  program.close();
});

test('program info is what bpftool says, by handle, by pin and by id', () => {
  const program = lab.loaded().program('mark');
  const path = `${lab.bpffs()}/mark`;
  program.pin(path);
  const shown = json<{ id: number; name: string; tag: string; map_ids?: number[] }>(
    ...(['bpftool', '-j', 'prog', 'show', 'pinned', path] as const),
  );
  const expected = { id: shown.id, name: 'mark', type: 6, tag: shown.tag, mapIds: shown.map_ids ?? [] };
  expect(program.info).toEqual(expected);
  expect(native().openProgram(path).info).toEqual(expected);
  expect(native().programInfoById(shown.id)).toEqual(expected);
  expect(refusal(() => native().programInfoById(0xfffffffe)).code).toBe('ENOENT');
  expect(refusal(() => native().openMap(path))).toMatchObject({ operation: 'openMap', code: 'EINVAL' });
  expect(refusal(() => native().openLink(path)).message).toContain('is not a link');
});

test('program info names the maps that it uses', () => {
  const object = lab.loaded();
  const program = object.program('on_packet');
  expect(program.info.mapIds).toContain(object.map('percpu').info.id);
  expect(native().programInfoById(program.info.id).mapIds).toEqual(program.info.mapIds);
});

test('versions are those of the libraries', () => {
  expect(native().versions.libbpf).toMatch(/^\d+\.\d+/);
  expect(native().versions.api).toBe(2);
});

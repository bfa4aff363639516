/** `falcodrop map list`, `dump` and `check` through the built command, on maps that others have been at. */
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePorts } from '../../src/address/port.ts';
import { parsePrefix } from '../../src/address/prefix.ts';
import { u32 } from '../../src/kernel/attach.ts';
import {
  expectedMaps,
  expectedPrograms,
  mapFlagNames,
  mapTypeName,
  programTypeName,
} from '../../src/kernel/inspect.ts';
import {
  type BlockValue,
  encodeBlock,
  encodeScope,
  encodeSettings,
  forEver,
  keyOf,
  layout,
  trieKey,
} from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { objectBytes } from '../../src/kernel/object.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { type Edge, openEdge } from './edge.ts';

const service = [64042, 64043] as const;

let edge: Edge;
let set = '';
beforeAll(() => {
  edge = openEdge({ service });
});
afterAll(() => edge.lab.close());
beforeEach(() => {
  edge.attach();
  set = join(edge.lab.pinDir, 'set-1');
});
afterEach(() => {
  if (existsSync(edge.lab.pinDir)) edge.lab.detach(edge.namespace, null, { purge: true });
  rmSync(edge.stateDir, { recursive: true, force: true });
});

const block = (more: Partial<BlockValue> = {}): Buffer =>
  encodeBlock({
    dropUntil: forEver,
    countUntil: 0n,
    action: 0,
    owners: 1,
    scope: 0,
    prefixLength: 32,
    packets: 0n,
    bytes: 0n,
    lastSeen: 0n,
    ...more,
  });

/** As any tool could that may open the pin. */
function put(map: string, key: Uint8Array, value: Uint8Array): void {
  const opened = native().openMap(join(set, map));
  opened.update(key, value);
  opened.close();
}

const address = (text: string): Uint8Array => keyOf(parsePrefix(text));
const prefix = (text: string): Buffer => trieKey(parsePrefix(text));

function change(map: string, alter: (value: Buffer) => void): void {
  const opened = native().openMap(join(set, map));
  const value = opened.lookup(u32(0)) ?? Buffer.alloc(0);
  alter(value);
  opened.update(u32(0), value);
  opened.close();
}

describe('map list', () => {
  test('tells every pin; what it expects is what the object declares', () => {
    const { said } = edge.json(0, ['map', 'list']);
    expect(said.map(({ name }) => name)).toEqual(readdirSync(set).toSorted());
    expect(Object.keys(said[0] ?? {})).toEqual([
      ...['name', 'kind', 'type', 'key_size', 'value_size', 'entries', 'max_entries', 'uid', 'gid', 'user', 'group'],
      ...['mode', 'flags', 'frozen', 'foreign'],
    ]);
    const object = native().openObject(objectBytes(), 'falcodrop');
    const declared = object.maps().filter(({ name }) => !name.includes('.'));
    expect(Object.keys(expectedMaps).toSorted()).toEqual(declared.map(({ name }) => name).toSorted());
    for (const { name, type, keySize, valueSize } of declared) {
      const expected = expectedMaps[name];
      expect([mapTypeName(type), keySize, valueSize]).toEqual([expected?.type, expected?.key, expected?.value]);
      const one = said.find((each) => each.name === name);
      expect(one).toMatchObject({
        type: expected?.type,
        key_size: keySize,
        value_size: valueSize,
        flags: expected?.flags,
      });
      expect(one).toMatchObject({ uid: expected?.writable ? service[0] : 0, gid: service[1], foreign: false });
      expect(one?.mode).toBe(expected?.writable ? '0660' : '0640');
      if (expected?.entries !== null) expect(one?.max_entries).toBe(expected?.entries);
    }
    for (const { name, type } of object.programs()) {
      if (name !== 'falcodrop') expect(programTypeName(type)).toBe(expectedPrograms[name]);
    }
    object.close();
    expect(mapFlagNames(0x8000_0401 | 0)).toContain('mmapable');
  });

  test('fits 80 columns, and marks what another tool pinned and what is frozen', () => {
    const map = native().openMap(join(set, 'scopes'));
    map.pin(join(set, 'theirs'));
    map.close();
    const settings = native().openMap(join(set, 'settings'));
    settings.freeze();
    settings.close();
    edge.must(['block', '203.0.113.66', '203.0.113.0/24']);
    const lines = edge.must(['map', 'list']).trimEnd().split('\n');
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    expect(lines.find((line) => line.startsWith('theirs'))).toMatch(/ foreign$/);
    expect(lines.find((line) => line.startsWith('settings'))).toMatch(/ frozen$/);
    expect(lines.find((line) => line.startsWith('blocked_v4'))).toMatch(/ 1\/4096 /);
    expect(
      edge
        .json(0, ['map', 'list'])
        .said.filter(({ foreign }) => foreign)
        .map(({ name }) => name),
    ).toEqual(['theirs']);
  });

  test('of a member of the group, and of somebody else', () => {
    const member = edge.json(0, ['map', 'list'], { as: [65000, service[1]] }).said;
    expect(member.every(({ kind }) => kind === 'map' || kind === 'program')).toBe(true);
    expect(edge.json(5, ['map', 'list'], { as: [65000, 65000] }).errors[0]).toMatchObject({ code: 'not_permitted' });
  });
});

describe('map dump', () => {
  test('blocks in words, with the ports of their row, and what another tool wrote', () => {
    edge.must(['block', '203.0.113.66', '--for', '1h']);
    put('scopes', u32(3), encodeScope(parsePorts('tcp/22,udp/53')));
    put('blocked_v4', address('203.0.113.67'), block({ scope: 3, owners: 2 }));
    put('blocked_v4', address('203.0.113.68'), block({ prefixLength: 0, owners: 0x40, action: 9 }));
    put('blocked_v4', address('203.0.113.69'), block({ scope: 0xffff, owners: 0 }));
    const reserved = block();
    reserved[layout.block.members.reserved[0]] = 1;
    put('blocked_v4', address('203.0.113.70'), reserved);
    const { said } = edge.json(0, ['map', 'dump', 'blocked_v4']);
    const of = (target: string) => said.find((each) => each.target === target);
    expect(said).toHaveLength(5);
    expect(of('203.0.113.66')).toMatchObject({ state: 'enforce', owners: ['hand'], scope: 0, ports: [], foreign: [] });
    expect(of('203.0.113.67')).toMatchObject({
      owners: ['policy'],
      scope: 3,
      ports: ['tcp/22', 'udp/53'],
      foreign: [],
    });
    expect(of('203.0.113.68')).toMatchObject({ foreign: ['prefix_length', 'owners', 'action'] });
    expect(of('203.0.113.69')).toMatchObject({ ends_at: null, drop_seconds: null, foreign: ['owners', 'scope'] });
    expect(of('203.0.113.70')).toMatchObject({ foreign: ['reserved'] });
    const text = edge.must(['map', 'dump', 'blocked_v4']);
    expect(text).toMatch(/203\.0\.113\.67 .* tcp\/22,udp\/53$/m);
    expect(text).toMatch(/203\.0\.113\.68 .* foreign: prefix_length,owners,action$/m);
    expect(edge.json(0, ['map', 'dump', 'blocked_v4', '--limit', '2']).said).toHaveLength(2);
  });

  test('prefixes whose bits beyond the length are set, whole and too long addresses, IPv4 as IPv6', () => {
    const odd = prefix('203.0.113.0/24');
    odd[7] = 77;
    put('blocked_cidr_v4', odd, block({ prefixLength: 24 }));
    put('blocked_cidr_v4', prefix('198.51.100.7/32'), block());
    // The reserved bytes of the key would be bits 33 and on.
    const long = prefix('198.51.100.8/32');
    long[0] = 40;
    put('blocked_cidr_v4', long, block({ prefixLength: 40 }));
    put('blocked_v6', Buffer.from('00000000000000000000ffffcb007142', 'hex'), block({ prefixLength: 128 }));
    const { said } = edge.json(0, ['map', 'dump', 'blocked_cidr_v4']);
    expect(said.map(({ target, foreign }) => [target, foreign])).toEqual(
      expect.arrayContaining([
        ['203.0.113.77/24', ['host_bits']],
        ['198.51.100.7', ['whole_address']],
        ['198.51.100.8', ['too_long']],
      ]),
    );
    expect(edge.json(0, ['map', 'dump', 'blocked_v6']).said[0]).toMatchObject({ foreign: ['v4_mapped'] });
  });

  test('as bytes, and the same whatever the layout', () => {
    put('blocked_v4', address('203.0.113.66'), block());
    const { said } = edge.json(0, ['map', 'dump', 'blocked_v4', '--raw']);
    expect(said).toEqual([{ key: 'cb007142', value: block().toString('hex') }]);
    expect(edge.must(['map', 'dump', 'blocked_v4', '--raw'])).toContain('cb 00 71 42  ff ff');
    change('settings', (value) => value.writeUInt32LE(9, layout.settings.members.format[0]));
    expect(edge.json(1, ['map', 'dump', 'blocked_v4']).errors[0]).toMatchObject({
      code: 'layout_mismatch',
      hint: expect.stringContaining('--raw'),
    });
    expect(edge.json(0, ['map', 'dump', 'blocked_v4', '--raw']).said).toEqual(said);
  });

  test('every other map', () => {
    change('hints', (value) => value.writeUInt32LE(3, layout.hints.members.prefixes[0]));
    put('scopes', u32(255), encodeScope(parsePorts('sctp/9')));
    const settings = { format: 3, mode: 1, deadline: 1n, modeAfter: 2, sampling: 0, neverDrop: parsePorts('tcp/22') };
    put('settings', u32(0), encodeSettings(settings));
    const allow = Buffer.alloc(layout.allow.size);
    allow.writeBigUInt64LE(forEver);
    allow[layout.allow.members.prefix_length[0]] = 24;
    put('allowed_cidr_v4', prefix('192.0.2.0/24'), allow);
    put('allowed_cidr_v6', prefix('2001:d00::/24'), allow);
    const dump = (name: string) => edge.json(0, ['map', 'dump', name]).said;
    expect(dump('hints')).toEqual([{ prefixes: ['ipv4', 'ipv6'], skew_seconds: expect.any(Number), foreign: [] }]);
    expect(dump('scopes')).toEqual([{ row: 255, ports: ['sctp/9'], foreign: [] }]);
    expect(dump('settings')).toEqual([
      {
        format: 3,
        mode: 'monitor',
        deadline_at: null,
        deadline_in_seconds: 0,
        mode_after: 'off',
        sampling: 0,
        never_drop: ['tcp/22'],
      },
    ]);
    expect(dump('allowed_cidr_v4')).toContainEqual({
      prefix: '192.0.2.0/24',
      state: 'live',
      ends_at: null,
      ends_in_seconds: null,
      foreign: [],
    });
    expect(dump('interfaces')).toEqual([
      { slot: 0, ifindex: edge.lab.ifindex(edge.namespace, 'up0'), interface: 'up0' },
    ]);
    put('settings', u32(0), encodeSettings({ ...settings, mode: 0, deadline: 0n }));
    edge.lab.exec(edge.outside, 'ping', '-c1', '-W2', '198.51.100.1');
    const counted = dump('counters');
    for (const slot of [null, 0]) {
      expect(counted).toContainEqual({
        slot,
        interface: slot === null ? null : 'up0',
        kind: 'pass_clean',
        packets: expect.any(Number),
        bytes: expect.any(Number),
      });
    }
    for (const name of Object.keys(expectedMaps).filter((each) => each !== 'drop_samples')) {
      expect(edge.must(['map', 'dump', name])).not.toBe('');
    }
  });

  test('refuses what is no map of the set', () => {
    for (const names of [[], ['hints', 'scopes'], ['../set-1/hints'], ['\x1b]0;x\x07'], ['change'], ['drop_samples']]) {
      const { errors } = edge.json(2, ['map', 'dump', ...names]);
      expect(errors[0]).toMatchObject({ code: 'usage' });
    }
    expect(edge.run(['map', 'dump', '\x1b]0;x\x07']).stderr).not.toContain('\x1b]');
  });
});

describe('map check', () => {
  test('is content with what attach made, and with what is blocked', () => {
    edge.must(['block', '203.0.113.66', '203.0.113.0/24', '2001:db8:5::/48']);
    expect(edge.json(0, ['map', 'check']).said).toEqual([{ set, format: 3, ok: true, findings: [] }]);
    expect(edge.must(['map', 'check'])).toContain('as they should be');
  });

  test('tells of maps that are made for another service than the configuration’s', () => {
    const other = join(edge.lab.directory, 'other.yaml');
    writeFileSync(other, 'service: { user: "64999", group: "64999" }\n');
    const { said } = edge.json(1, ['map', 'check', '--config', other]);
    expect(said[0]?.findings).toEqual([
      expect.objectContaining({ code: 'service_owner', severity: 'wrong', hint: expect.stringContaining('--purge') }),
    ]);
    writeFileSync(other, 'service: 7\n');
    expect(edge.json(0, ['map', 'check', '--config', other]).said[0]?.findings).toEqual([
      expect.objectContaining({ code: 'unchecked', hint: 'falcodrop check' }),
    ]);
  });

  test('of a member of the group leaves out what is root’s, and says so', () => {
    const { said } = edge.json(0, ['map', 'check'], { as: [65000, service[1]] });
    expect(said[0]?.findings).toEqual([expect.objectContaining({ code: 'unchecked', severity: 'note' })]);
    expect(edge.json(5, ['map', 'check'], { as: [65000, 65000] }).errors[0]).toMatchObject({ code: 'not_permitted' });
  });

  test('a directory that is no bpffs, and a link to nowhere', () => {
    const fake = join(edge.lab.directory, 'fake');
    mkdirSync(join(fake, 'set-1'), { recursive: true });
    symlinkSync('set-1', join(fake, 'current'));
    const { said } = edge.json(1, ['map', 'check'], { environment: { FALCODROP_PIN_DIR: fake } });
    const findings = said[0]?.findings as { code: string }[];
    expect(new Set(findings.map(({ code }) => code))).toContain('not_bpffs');
    rmSync(join(fake, 'set-1'), { recursive: true });
    const { errors } = edge.json(1, ['map', 'check'], { environment: { FALCODROP_PIN_DIR: fake } });
    expect(errors[0]).toMatchObject({ code: 'layout_mismatch' });
    const nothing = edge.json(1, ['map', 'list'], { environment: { FALCODROP_PIN_DIR: '/nonexistent' } });
    expect(nothing.errors[0]).toMatchObject({ code: 'pin_dir_missing' });
    expect(() => new PinnedSet(fake)).toThrow();
  });
});

import { chmodSync, chownSync, mkdirSync, renameSync, rmdirSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { type Finding, findAll } from '../../src/cli/map-check.ts';
import { attach, u32 } from '../../src/kernel/attach.ts';
import { readSet } from '../../src/kernel/inspect.ts';
import { type BlockValue, encodeBlock, forEver, keyOf, trieKey } from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { type Pinned, wish, withPinned } from '../blocklist/pinned.ts';

const service = { uid: 64042, gid: 64043 };

/** What a test does to the pins, with a shorthand for paths below the pin directory and for the maps of the set. */
interface Damage {
  readonly pinned: Pinned;
  readonly at: (path: string) => string;
  readonly link: () => string;
  readonly put: (map: string, key: Uint8Array, value: Uint8Array) => void;
  readonly alter: (map: string, change: (value: Buffer) => void) => void;
}

function damageOf(pinned: Pinned): Damage {
  const { lab, interfaceName } = pinned;
  const at = (path: string): string => join(lab.pinDir, path);
  const put = (map: string, key: Uint8Array, value: Uint8Array): void => {
    const opened = native().openMap(at(`current/${map}`));
    opened.update(key, value);
    opened.close();
  };
  return {
    pinned,
    at,
    put,
    link: () => at(`links/if${lab.ifindex(null, interfaceName)}`),
    alter: (map, change) => {
      const opened = native().openMap(at(`current/${map}`), { readOnly: true });
      const value = opened.lookup(u32(0)) ?? Buffer.alloc(0);
      opened.close();
      change(value);
      put(map, u32(0), value);
    },
  };
}

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
const address = (text: string): Uint8Array => keyOf(parsePrefix(text));
const prefix = (text: string): Buffer => trieKey(parsePrefix(text));

function find({ lab }: Pinned): Finding[] {
  const findings = [...findAll(readSet(lab.pinDir))];
  for (const { hint } of findings) expect(hint.length).toBeGreaterThan(5);
  return findings;
}

const codes = (findings: readonly Finding[], severity: Finding['severity']): string[] =>
  [...new Set(findings.filter((each) => each.severity === severity).map(({ code }) => code))].toSorted();

test('nothing is found in what attach made, with all kinds of blocks in it', () =>
  withPinned(
    async (pinned) => {
      for (const target of ['203.0.113.66', '203.0.113.0/24', '2001:db8::66', '2001:db8:5::/48']) {
        await pinned.list.block(wish(target));
      }
      expect(find(pinned)).toEqual([]);
    },
    { service },
  ));

const { uid, gid } = service;

test.each<[string, Finding['code'], (damage: Damage) => unknown]>([
  ['a pin that all may write', 'pin_mode', ({ at }) => chmodSync(at('set-1/blocked_v4'), 0o666)],
  ['settings of the service', 'pin_owner', ({ at }) => chownSync(at('set-1/settings'), uid, gid)],
  ['a pin of somebody else', 'pin_owner', ({ at }) => chownSync(at('set-1/hints'), 65000, 65000)],
  ['a program that all may run', 'pin_mode', ({ at }) => chmodSync(at('set-1/change'), 0o777)],
  ['a lock that all may hold', 'directory_mode', ({ at }) => chmodSync(at('lock'), 0o777)],
  ['a set of the service', 'directory_owner', ({ at }) => chownSync(at('set-1'), uid, gid)],
  ['a link that all may open', 'pin_mode', ({ link }) => chmodSync(link(), 0o644)],
  ['a link of the service', 'pin_owner', ({ link }) => chownSync(link(), uid, gid)],
])('finds %s, and its way out is one', (_, code, harm) =>
  withPinned(
    (pinned) => {
      harm(damageOf(pinned));
      const findings = find(pinned);
      expect(codes(findings, 'wrong')).toEqual([code]);
      for (const { hint } of findings) pinned.lab.exec(null, 'sh', '-c', hint);
      expect(find(pinned)).toEqual([]);
    },
    { service },
  ),
);

test.each<[string, Finding['code'], (damage: Damage) => unknown]>([
  ['no lock of the samples', 'directory_missing', ({ at }) => rmdirSync(at('samples'))],
  ['a map that is missing', 'pin_missing', ({ at }) => unlinkSync(at('set-1/blocked_v6'))],
  [
    'a map in the place of another',
    'pin_layout',
    ({ at }) => {
      const map = native().openMap(at('set-1/blocked_v4'));
      map.update(address('203.0.113.66'), block());
      unlinkSync(at('set-1/blocked_v6'));
      map.pin(at('set-1/blocked_v6'));
      map.close();
      chownSync(at('set-1/blocked_v6'), uid, gid);
      chmodSync(at('set-1/blocked_v6'), 0o660);
    },
  ],
  [
    'a map in the place of a program',
    'pin_kind',
    ({ at }) => {
      renameSync(at('set-1/change'), at('set-1/moved'));
      renameSync(at('set-1/scopes'), at('set-1/change'));
      renameSync(at('set-1/moved'), at('set-1/scopes'));
    },
  ],
  [
    'a frozen map',
    'frozen',
    ({ at }) => {
      const map = native().openMap(at('set-1/scopes'));
      map.freeze();
      map.close();
    },
  ],
  [
    'prefixes that nobody hints at',
    'hint_missing',
    ({ put }) => put('blocked_cidr_v6', prefix('2001:db8::/32'), block({ prefixLength: 32 })),
  ],
  [
    'an entry of an empty row',
    'scope_empty',
    ({ put }) => put('blocked_v4', address('203.0.113.66'), block({ scope: 7 })),
  ],
  [
    'an entry of another tool',
    'foreign_entries',
    ({ put }) => put('blocked_v4', address('203.0.113.66'), block({ prefixLength: 0 })),
  ],
  ['another format', 'format', ({ alter }) => alter('settings', (value) => value.writeUInt32LE(9))],
  ['a mode that there is not', 'settings_mode', ({ alter }) => alter('settings', (value) => value.writeUInt32LE(7, 4))],
  ['a clock that is off', 'skew', ({ alter }) => alter('hints', (value) => value.writeBigUInt64LE(1n << 44n))],
  ['no slot', 'slot_missing', ({ put }) => put('interfaces', u32(0), u32(0))],
  [
    'a set that no attach makes',
    'current_link',
    ({ at }) => {
      renameSync(at('set-1'), at('mine'));
      unlinkSync(at('current'));
      symlinkSync('mine', at('current'));
    },
  ],
])('finds %s', (_, code, harm) =>
  withPinned(
    (pinned) => {
      harm(damageOf(pinned));
      expect(codes(find(pinned), 'wrong')).toEqual([code]);
    },
    { service },
  ),
);

test('finds a program that looks into another set', () =>
  withPinned(
    async (pinned) => {
      const { lab, interfaceName } = pinned;
      const { at } = damageOf(pinned);
      const { a } = lab.veth({ name: 's' }, { name: 't' });
      const second = join(lab.bpffs, 'second');
      await attach(second, [a], { mode: 'auto', sizes: {}, service });
      renameSync(join(second, 'set-1'), at('set-2'));
      unlinkSync(at('current'));
      symlinkSync('set-2', at('current'));
      const interfaces = native().openMap(at('set-2/interfaces'));
      interfaces.update(u32(1), u32(lab.ifindex(null, interfaceName)));
      interfaces.close();
      const findings = find(pinned);
      expect(codes(findings, 'wrong')).toEqual(['link_old_set']);
      expect(codes(findings, 'note')).toEqual(['leftover', 'slot_stale']);
      unlinkSync(join(second, 'links', `if${lab.ifindex(null, a)}`));
    },
    { service },
  ));

test('finds a link whose interface is gone', () =>
  withPinned(
    async (pinned) => {
      const { lab } = pinned;
      const { a } = lab.veth({ name: 's' }, { name: 't' });
      await attach(lab.pinDir, [a], { mode: 'auto', sizes: {}, service });
      lab.exec(null, 'ip', 'link', 'del', a);
      expect(codes(find(pinned), 'wrong')).toEqual(['link_gone']);
    },
    { service },
  ));

test('notes what does no harm', () =>
  withPinned(
    (pinned) => {
      const { at, put, link } = damageOf(pinned);
      const map = native().openMap(at('set-1/scopes'));
      map.pin(at('set-1/theirs'));
      map.close();
      mkdirSync(at('set-7'));
      put('interfaces', u32(5), u32(4711));
      const findings = find(pinned);
      expect(codes(findings, 'wrong')).toEqual([]);
      expect(codes(findings, 'note')).toEqual(['foreign_pin', 'leftover', 'slot_stale']);
      unlinkSync(link());
      expect(codes(find(pinned), 'note')).toContain('not_attached');
    },
    { service },
  ));

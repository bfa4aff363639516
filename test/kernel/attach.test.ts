/** Attach, replace and detach on real interfaces. */
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parsePrefix } from '../../src/address/prefix.ts';
import { Blocklist } from '../../src/blocklist/blocklist.ts';
import { FalcodropError } from '../../src/errors.ts';
import { attach, attachments, detach, findInterface, inspectInterface } from '../../src/kernel/attach.ts';
import { readCounters } from '../../src/kernel/counters.ts';
import { forEver, never } from '../../src/kernel/layout.ts';
import { native } from '../../src/kernel/native.ts';
import { defaultPinDir } from '../../src/kernel/pins.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { byTest } from '../blocklist/cause.ts';
import { ActError, type AttachRequest, actScript, type Lab, withLab } from './lab.ts';
import { buildVariant, compileVariant, edit, sameWithOtherTag } from './variant.ts';

const small = { addresses: 64, prefixes: 32 };
const service = { uid: 0, gid: 0 };
const root = join(import.meta.dirname, '../..');
const multiarch = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;

const put = (lab: Lab, names: string[], request: AttachRequest = {}) =>
  attach(lab.pinDir, names, { mode: request.mode ?? 'auto', sizes: request.sizes ?? small, service });

/** The FalcodropError a call must end in, its own or one told by act.ts. */
async function refusal(work: () => unknown): Promise<{ code: string; message: string; hint: string | undefined }> {
  try {
    await work();
  } catch (error) {
    if (error instanceof FalcodropError || error instanceof ActError) {
      return { code: error.code, message: error.message, hint: error.hint };
    }
    throw error;
  }
  throw new Error('it was expected to be refused');
}

const pair = (lab: Lab) => lab.veth({ name: 'a' }, { name: 'b' }).a;
const xdpOf = (name: string) => findInterface(name).xdp;
const bpftool = <T>(lab: Lab, ...args: string[]): T => JSON.parse(lab.exec(null, 'bpftool', '-j', ...args)) as T;

/** Pins somebody else's XDP program; returns the pin and its id. */
function foreign(lab: Lab): { pin: string; id: number } {
  const object = join(lab.directory, 'foreign.o');
  const pin = join(lab.bpffs, 'foreign');
  lab.exec(
    null,
    'clang',
    ...['-O2', '-g', '-target', 'bpf', `-I/usr/include/${multiarch}-linux-gnu`, '-c'],
    ...[join(import.meta.dirname, 'fixtures/foreign.bpf.c'), '-o', object],
  );
  lab.exec(null, 'bpftool', 'prog', 'load', object, pin);
  return { pin, id: bpftool<{ id: number }>(lab, 'prog', 'show', 'pinned', pin).id };
}

describe('attach', () => {
  it.each([
    ['auto', 'native'],
    ['native', 'native'],
    ['generic', 'generic'],
  ] as const)('%s on veth is %s', (mode, got) =>
    withLab(async (lab) => {
      const a = pair(lab);
      const [outcome] = await put(lab, [a], { mode });
      expect(outcome).toEqual({
        status: 'attached',
        attachment: {
          ifindex: lab.ifindex(null, a),
          name: a,
          mode: got,
          slot: 0,
          programId: expect.any(Number),
        },
      });
      expect(xdpOf(a)).toEqual({ mode: got, programId: outcome?.attachment.programId });
      expect(attachments(lab.pinDir)).toEqual([outcome?.attachment]);
      expect(inspectInterface(lab.pinDir, a)).toMatchObject({
        driver: 'veth',
        mtu: 1500,
        up: true,
        holder: { name: 'falcodrop', mode: got, link: true },
        attachment: outcome?.attachment,
      });
      expect(await put(lab, [a])).toMatchObject([{ status: 'unchanged' }]);
      expect((await refusal(() => put(lab, [a], { mode: got === 'native' ? 'generic' : 'native' }))).code).toBe(
        'xdp_other_mode',
      );
      expect(xdpOf(a).mode).toBe(got);
    }),
  );

  it('auto falls back to generic where the driver has no native XDP, and native says so', () =>
    withLab(async (lab) => {
      const bridge = lab.name('br');
      lab.exec(null, 'ip', 'link', 'add', bridge, 'type', 'bridge');
      lab.onClose(() => lab.exec(null, 'ip', 'link', 'del', bridge));
      expect(await refusal(() => put(lab, [bridge], { mode: 'native' }))).toMatchObject({
        code: 'xdp_unsupported',
        message: expect.stringContaining(`the driver of ${bridge} (bridge) has no native XDP`),
        hint: expect.stringContaining('--xdp generic'),
      });
      expect(xdpOf(bridge).mode).toBe('none');
      expect(await put(lab, [bridge])).toMatchObject([{ status: 'attached', attachment: { mode: 'generic' } }]);
      expect(xdpOf(bridge).mode).toBe('generic');
    }));

  it('pins as the table of the design says', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      await attach(lab.pinDir, [a], { mode: 'auto', sizes: small, service: { uid: 64042, gid: 64043 } });
      expect(readdirSync(lab.pinDir).sort()).toEqual(['current', 'links', 'lock', 'root', 'samples', 'set-1']);
      expect(readlinkSync(join(lab.pinDir, 'current'))).toBe('set-1');
      const seen = (path: string) => {
        const { mode, uid, gid } = lstatSync(join(lab.pinDir, path));
        return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
      };
      expect(
        Object.fromEntries(
          ['.', 'links', 'lock', 'root', 'samples', 'set-1', `links/if${lab.ifindex(null, a)}`].map((path) => [
            path,
            seen(path),
          ]),
        ),
      ).toEqual({
        '.': '755 0:0',
        links: '755 0:0',
        lock: '770 0:64043',
        root: '700 0:0',
        samples: '750 0:64043',
        'set-1': '755 0:0',
        [`links/if${lab.ifindex(null, a)}`]: '600 0:0',
      });
      const writable = '660 64042:64043';
      const readable = '640 0:64043';
      expect(
        Object.fromEntries(readdirSync(join(lab.pinDir, 'set-1')).map((pin) => [pin, seen(`set-1/${pin}`)])),
      ).toEqual({
        blocked_v4: writable,
        blocked_v6: writable,
        blocked_cidr_v4: writable,
        blocked_cidr_v6: writable,
        scopes: writable,
        hints: writable,
        drop_samples: writable,
        change: writable,
        change_cidr: writable,
        allowed_cidr_v4: readable,
        allowed_cidr_v6: readable,
        settings: readable,
        counters: readable,
        interfaces: readable,
      });
    }));

  it('writes what bpftool reads', () =>
    withLab(async (lab) => {
      await put(lab, [pair(lab)]);
      const list = Blocklist.open(lab.pinDir);
      for (const [target, seconds, mode] of [
        ['198.51.100.66', null, 'enforce'],
        ['2001:db8::66', null, 'monitor'],
        ['198.51.100.0/24', null, 'enforce'],
        ['2001:db8::/32', null, 'monitor'],
      ] as const) {
        await list.block({ target: parsePrefix(target), owner: 'feed:x', mode, seconds, cause: byTest });
      }
      list.close();
      interface Dumped {
        readonly key: readonly string[];
        readonly formatted: { readonly value: Record<string, number | string> };
      }
      const dump = (name: string) => {
        const [entry, ...more] = bpftool<Dumped[]>(lab, 'map', 'dump', 'pinned', `${lab.pinDir}/current/${name}`);
        expect(more).toEqual([]);
        return {
          key: Buffer.from((entry?.key ?? []).map(Number)).toString('hex'),
          value: entry?.formatted.value,
        };
      };
      const value = { owners: 4, action: 0, scope: 0, packets: 0, bytes: 0, last_seen: 0 };
      // JSON.parse rounds 2^64 - 1.
      const enforce = { ...value, drop_until: Number(forEver), count_until: Number(never) };
      const monitor = { ...value, drop_until: Number(never), count_until: Number(forEver) };
      expect(dump('blocked_v4')).toEqual({
        key: 'c6336442',
        value: expect.objectContaining({ ...enforce, prefix_length: 32 }),
      });
      expect(dump('blocked_v6')).toEqual({
        key: '20010db8000000000000000000000066',
        value: expect.objectContaining({ ...monitor, prefix_length: 128 }),
      });
      expect(dump('blocked_cidr_v4')).toEqual({
        key: '18000000c633640000000000',
        value: expect.objectContaining({ ...enforce, prefix_length: 24 }),
      });
      expect(dump('blocked_cidr_v6')).toEqual({
        key: `20000000${'20010db8000000000000000000000000'}`,
        value: expect.objectContaining({ ...monitor, prefix_length: 32 }),
      });
      const [hints] = bpftool<Dumped[]>(lab, 'map', 'dump', 'pinned', `${lab.pinDir}/current/hints`);
      expect(hints?.formatted.value).toMatchObject({ skew_ns: 0, prefixes: 3 });
      const [settings] = bpftool<Dumped[]>(lab, 'map', 'dump', 'pinned', `${lab.pinDir}/current/settings`);
      expect(settings?.formatted.value).toMatchObject({ format: 3, mode: 0, deadline: 0, mode_after: 0, sampling: 1 });
    }));

  it('several interfaces share the maps, each with a slot; the same twice is one', () =>
    withLab(async (lab) => {
      const { a, b } = lab.veth({ name: 'a' }, { name: 'b' });
      const outcomes = await put(lab, [a, b, a]);
      expect(outcomes.map(({ attachment }) => [attachment.name, attachment.slot])).toEqual([
        [a, 0],
        [b, 1],
      ]);
      await detach(lab.pinDir, [a], { purge: false });
      const c = lab.veth({ name: 'c' }, { name: 'd' }).a;
      expect(await put(lab, [c], { sizes: {} })).toMatchObject([{ attachment: { slot: 0 } }]);
    }));

  it('with other sizes is refused, with the same or none is not', () =>
    withLab(async (lab) => {
      const { a, b } = lab.veth({ name: 'a' }, { name: 'b' });
      await put(lab, [a]);
      for (const [sizes, words] of [
        [{ addresses: 65 }, '--addresses 65 was asked, but the pinned maps were made for 64'],
        [{ prefixes: 31 }, '--prefixes 31 was asked, but the pinned maps were made for 32'],
      ] as const) {
        expect(await refusal(() => put(lab, [b], { sizes }))).toMatchObject({ code: 'sizes_differ', message: words });
      }
      expect(xdpOf(b).mode).toBe('none');
      expect(await put(lab, [b], { sizes: {} })).toMatchObject([{ status: 'attached' }]);
      expect(await put(lab, [b])).toMatchObject([{ status: 'unchanged' }]);
    }));

  it('of another build replaces the program under the link', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const script = buildVariant(lab, 'other', sameWithOtherTag);
      const [first] = await put(lab, [a]);
      const list = Blocklist.open(lab.pinDir);
      await list.block({
        target: parsePrefix('192.0.2.9'),
        owner: 'hand',
        mode: 'enforce',
        seconds: null,
        cause: byTest,
      });
      const link = () => {
        const { id, ifindex } = native().linkHolding(lab.ifindex(null, a)) ?? expect.fail('no link holds it');
        const pinned = bpftool<{ id: number }>(lab, 'link', 'show', 'pinned', `${lab.pinDir}/links/if${ifindex}`);
        return [id, pinned.id];
      };
      const before = link();
      expect(before[0]).toBe(before[1]);
      const [second] = lab.attach(null, [a], { script });
      expect(second).toMatchObject({ status: 'replaced', attachment: { slot: 0, mode: first?.attachment.mode } });
      expect(second?.attachment.programId).not.toBe(first?.attachment.programId);
      expect(xdpOf(a).programId).toBe(second?.attachment.programId);
      expect(link()).toEqual(before);
      expect([...list.entries()]).toHaveLength(1);
      list.close();
      expect(lab.attach(null, [a], { script })).toMatchObject([{ status: 'unchanged' }]);
      expect(await put(lab, [a])).toMatchObject([{ status: 'replaced' }]);
    }));

  it('an interface name with a dot', () =>
    withLab(async (lab) => {
      const dotted = lab.veth({ name: 'a.7' }, { name: 'b' }).a;
      expect(await put(lab, [dotted])).toMatchObject([{ attachment: { name: dotted } }]);
      await detach(lab.pinDir, [dotted], { purge: false });
      expect(xdpOf(dotted).mode).toBe('none');
    }));

  it('a device deleted and made again under its pinned link', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const before = lab.ifindex(null, a);
      await put(lab, [a]);
      lab.exec(null, 'ip', 'link', 'del', a);
      lab.exec(null, 'ip', 'link', 'add', a, 'index', `${before}`, 'type', 'veth', 'peer', 'name', lab.name('b'));
      expect(attachments(lab.pinDir)).toEqual([]);
      expect(await put(lab, [a])).toMatchObject([{ status: 'attached', attachment: { slot: 0, ifindex: before } }]);
      lab.exec(null, 'ip', 'link', 'del', a);
      const again = pair(lab);
      expect(await put(lab, [again])).toMatchObject([{ status: 'attached', attachment: { slot: 0 } }]);
      expect(readdirSync(join(lab.pinDir, 'links'))).toEqual([`if${lab.ifindex(null, again)}`]);
    }));

  it('of other network namespaces leaves theirs alone', () =>
    withLab(async (lab) => {
      const [one, two] = [lab.namespace('m'), lab.namespace('n')];
      lab.veth({ namespace: one, name: 'x', exact: true }, { namespace: one, name: 'y', exact: true });
      lab.veth({ namespace: two, name: 'x', exact: true }, { namespace: two, name: 'y', exact: true });
      lab.exec(two, 'ip', 'link', 'add', 'z', 'index', '77', 'type', 'veth', 'peer', 'name', 'w');
      expect(lab.ifindex(one, 'x')).toBe(lab.ifindex(two, 'x'));
      lab.attach(one, ['x'], { sizes: small });
      const held = () => (JSON.parse(lab.exec(one, 'ip', '-j', 'link', 'show', 'x')) as { xdp?: object }[])[0]?.xdp;
      expect(held()).toBeDefined();
      const error = await refusal(() => lab.attach(two, ['x']));
      expect(error.message).toContain('another network namespace');
      expect((await refusal(() => lab.detach(two, ['x']))).message).toContain('another network namespace');
      expect(lab.attach(two, ['z'])).toMatchObject([{ status: 'attached', attachment: { slot: 1 } }]);
      expect(held()).toBeDefined();
      expect(readdirSync(join(lab.pinDir, 'links'))).toHaveLength(2);
      // all of them, theirs too: by a name that is not mistaken for one of ours
      const detached = lab.detach(two, null).map(({ name }) => name);
      expect(detached.sort()).toEqual([`if${lab.ifindex(one, 'x')}`, 'z']);
      expect(held()).toBeUndefined();
    }));

  it('counts of a slot begin at nothing for its next interface', () =>
    withLab((lab) => {
      const [edge, peer] = [lab.namespace('e'), lab.namespace('p')];
      const wire = (name: string, address: string) =>
        lab.veth(
          { namespace: edge, name, exact: true, addresses: [`${address}1/24`] },
          { namespace: peer, name, exact: true, addresses: [`${address}2/24`] },
        ).a;
      lab.attach(edge, [wire('one', '192.0.2.')], { sizes: small });
      const set = new PinnedSet(lab.pinDir);
      lab.exec(peer, 'ping', '-c', '2', '-i', '0.01', '-W', '1', '192.0.2.1');
      expect(readCounters(set, 0).PASS_CLEAN.packets).toBeGreaterThanOrEqual(2);
      lab.detach(edge, ['one']);
      lab.attach(edge, [wire('two', '198.51.100.')]);
      expect(readCounters(set, 0).PASS_CLEAN).toEqual({ packets: 0, bytes: 0 });
      set.close();
    }));
});

describe('attach is refused', () => {
  const nothing = (lab: Lab) => expect(existsSync(lab.pinDir)).toBe(false);

  it('where there is no such interface, naming those there are', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const error = await refusal(() => put(lab, [a, 'nosuch0']));
      expect(error).toMatchObject({ code: 'interface_missing', hint: expect.stringContaining(a) });
      nothing(lab);
      expect(xdpOf(a).mode).toBe('none');
    }));

  it('where there is no Ethernet header', () =>
    withLab(async (lab) => {
      const tun = lab.name('t');
      lab.exec(null, 'ip', 'tuntap', 'add', 'dev', tun, 'mode', 'tun');
      lab.onClose(() => lab.exec(null, 'ip', 'link', 'del', tun));
      expect(await refusal(() => put(lab, [tun]))).toMatchObject({
        code: 'no_ethernet_header',
        message: expect.stringContaining(tun),
      });
      const a = pair(lab);
      const gre = lab.name('g');
      const added = lab.run(
        null,
        'ip',
        ...['link', 'add', gre, 'type', 'gre', 'local', '192.0.2.1', 'remote', '192.0.2.2', 'dev', a],
      );
      if (added.status === 0) {
        lab.onClose(() => lab.exec(null, 'ip', 'link', 'del', gre));
        const error = await refusal(() => put(lab, [gre]));
        expect(error.code).toBe('no_ethernet_header');
        expect(error.hint).toContain(a);
      }
      nothing(lab);
    }));

  it.each([
    ['native', 'xdpdrv', 'native'],
    ['native', 'xdpgeneric', 'generic'],
    ['generic', 'xdpdrv', 'native'],
    ['generic', 'xdpgeneric', 'generic'],
    ['auto', 'xdpdrv', 'native'],
  ] as const)('%s over somebody else’s %s', (mode, how, held) =>
    withLab(async (lab) => {
      const a = pair(lab);
      const { pin, id } = foreign(lab);
      lab.exec(null, 'bpftool', 'net', 'attach', how, 'pinned', pin, 'dev', a);
      const error = await refusal(() => put(lab, [a], { mode }));
      expect(error).toMatchObject({
        code: 'xdp_busy',
        message: `${a} already has an XDP program: somebody_else, id ${id}, ${held} mode, attached over netlink`,
      });
      expect(error.hint).toContain(`ip link set ${a} ${held === 'generic' ? 'xdpgeneric' : 'xdp'} off`);
      expect(xdpOf(a)).toEqual({ mode: held, programId: id });
      nothing(lab);
      // The hint is true.
      lab.exec(null, 'ip', 'link', 'set', a, held === 'generic' ? 'xdpgeneric' : 'xdp', 'off');
      expect(await put(lab, [a], { mode })).toMatchObject([{ status: 'attached' }]);
    }),
  );

  it.each(['native', 'generic'] as const)('over somebody else’s %s link', (mode) =>
    withLab(async (lab) => {
      const a = pair(lab);
      const { pin, id } = foreign(lab);
      const program = native().openProgram(pin);
      const link = native().attachXdp(program, lab.ifindex(null, a), mode);
      for (const wanted of ['native', 'generic', 'auto'] as const) {
        expect(await refusal(() => put(lab, [a], { mode: wanted }))).toMatchObject({
          code: 'xdp_busy',
          message: `${a} already has an XDP program: somebody_else, id ${id}, ${mode} mode, held by a bpf_link`,
        });
      }
      expect(xdpOf(a)).toEqual({ mode, programId: id });
      nothing(lab);
      link.close();
      program.close();
    }),
  );

  it('when somebody else comes in between the look and the attach', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const { pin, id } = foreign(lab);
      // attach() has looked at the interfaces when it waits for the lock.
      await put(lab, [lab.veth({ name: 'c' }, { name: 'd' }).a]);
      const lock = await native().lock(join(lab.pinDir, 'lock'), 'exclusive', 1000);
      const attaching = refusal(() => put(lab, [a], { mode: 'native' }));
      lab.exec(null, 'bpftool', 'net', 'attach', 'xdpgeneric', 'pinned', pin, 'dev', a);
      lock?.release();
      expect(await attaching).toMatchObject({
        code: 'xdp_busy',
        message: expect.stringContaining(`somebody_else, id ${id}, generic mode`),
      });
    }));

  it('by a jumbo MTU when the object has no frags; ours has them', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      lab.exec(null, 'ip', 'link', 'set', a, 'mtu', '9000');
      lab.exec(null, 'ip', 'link', 'set', lab.name('b'), 'mtu', '9000');
      const script = buildVariant(lab, 'nofrags', (source) => source);
      const object = join(lab.directory, 'nofrags/src/kernel/object.ts');
      lab.exec(null, 'sed', '-i', 's/return instance(map, slot, true)/return instance(map, slot, false)/', object);
      expect(readFileSync(object, 'utf8')).not.toContain('slot, true)');
      const error = await refusal(() => lab.attach(null, [a], { script, sizes: small, mode: 'native' }));
      expect(error).toMatchObject({ code: 'xdp_mtu', message: expect.stringContaining('9000') });
      nothing(lab);
      expect(await put(lab, [a], { mode: 'native' })).toMatchObject([{ attachment: { mode: 'native' } }]);
    }));

  it('outside a bpffs', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const elsewhere = join(lab.directory, 'plain/pins');
      const error = await refusal(() => attach(elsewhere, [a], { mode: 'auto', sizes: small, service }));
      expect(error).toMatchObject({ code: 'not_bpffs', hint: expect.stringContaining('mount -t bpf') });
      expect(existsSync(elsewhere)).toBe(false);
    }));

  it('at the default place in a mount namespace that would end with the command', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const request = JSON.stringify({ verb: 'attach', pinDir: defaultPinDir, names: [a] });
      const said = lab.exec(
        null,
        'unshare',
        ...['-m', 'sh', '-c', 'mount -t tmpfs tmpfs /run && exec "$0" "$@"', process.execPath, actScript, request],
      );
      expect(JSON.parse(said)).toMatchObject({
        code: 'foreign_mount_namespace',
        hint: expect.stringContaining('nsenter --net='),
      });
      expect(xdpOf(a).mode).toBe('none');
    }));

  it('by a kernel that rejects the program, which leaves nothing', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const script = buildVariant(lab, 'rejected', (source) =>
        edit(
          source,
          'struct packet packet = {};',
          'struct packet packet = {};\n\tasm volatile("r9 = *(u64 *)(r10 + 8)");',
        ),
      );
      const error = await refusal(() => lab.attach(null, [a], { script, sizes: small }));
      expect(error.code).toBe('program_rejected');
      nothing(lab);
    }));

  it('for the second interface, the first stays', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const c = lab.veth({ name: 'c' }, { name: 'd' }).a;
      const { pin } = foreign(lab);
      lab.exec(null, 'bpftool', 'net', 'attach', 'xdpdrv', 'pinned', pin, 'dev', c);
      expect((await refusal(() => put(lab, [a, c]))).code).toBe('xdp_busy');
      expect(attachments(lab.pinDir)).toMatchObject([{ name: a }]);
    }));
});

describe('detach', () => {
  it('takes one off and leaves maps and others; purge takes all', () =>
    withLab(async (lab) => {
      const { a, b } = lab.veth({ name: 'a' }, { name: 'b' });
      await put(lab, [a, b]);
      const list = Blocklist.open(lab.pinDir);
      await list.block({
        target: parsePrefix('192.0.2.9'),
        owner: 'hand',
        mode: 'enforce',
        seconds: null,
        cause: byTest,
      });
      list.close();
      expect(await detach(lab.pinDir, [a], { purge: false })).toEqual([{ name: a, ifindex: lab.ifindex(null, a) }]);
      expect([xdpOf(a).mode, xdpOf(b).mode]).toEqual(['none', 'native']);
      expect((await refusal(() => detach(lab.pinDir, [a], { purge: false }))).code).toBe('not_attached');
      expect((await refusal(() => detach(lab.pinDir, ['nosuch0'], { purge: false }))).code).toBe('interface_missing');
      expect(await put(lab, [a])).toMatchObject([{ status: 'attached' }]);

      expect((await refusal(() => detach(lab.pinDir, [a], { purge: true }))).code).toBe('usage');
      await detach(lab.pinDir, null, { purge: false });
      const kept = Blocklist.open(lab.pinDir);
      expect([...kept.entries()]).toHaveLength(1);
      kept.close();
      await detach(lab.pinDir, null, { purge: true });
      expect(existsSync(lab.pinDir)).toBe(false);
      expect([xdpOf(a).mode, xdpOf(b).mode]).toEqual(['none', 'none']);
      expect((await refusal(() => detach(lab.pinDir, null, { purge: false }))).code).toBe('pin_dir_missing');
    }));

  it('purges a bpffs of somebody else’s of nothing but ours', () =>
    withLab(async (lab) => {
      const a = pair(lab);
      const { pin } = foreign(lab);
      await attach(lab.bpffs, [a], { mode: 'auto', sizes: small, service });
      await detach(lab.bpffs, null, { purge: true });
      expect(readdirSync(lab.bpffs).filter((name) => !name.includes('.'))).toEqual(['foreign']);
      expect(existsSync(pin)).toBe(true);
      expect(statSync(lab.bpffs).dev).not.toBe(statSync(lab.directory).dev);
    }));

  it('at the default place mounts a bpffs of its own, and purge unmounts it', () =>
    withLab((lab) => {
      const a = pair(lab);
      const request = (verb: string) =>
        JSON.stringify({
          verb,
          pinDir: defaultPinDir,
          names: verb === 'attach' ? [a] : null,
          sizes: small,
          purge: true,
        });
      // PID 1 of a new process namespace: its mount namespace is the one that lasts.
      const said = lab.exec(
        null,
        'unshare',
        ...['-m', '-p', '-f', '--mount-proc', 'sh', '-ec'],
        `mount -t tmpfs tmpfs /run
         "$0" "$1" "$2"; echo; stat -c %a ${defaultPinDir}; grep -c ' ${defaultPinDir} bpf ' /proc/self/mounts
         "$0" "$1" "$3"; echo; ls /run/falcodrop; grep -c ' ${defaultPinDir} ' /proc/self/mounts || true`,
        ...[process.execPath, actScript, request('attach'), request('detach')],
      );
      const [attached, mode, mounts, detached, left] = said.trim().split('\n');
      expect(JSON.parse(attached ?? '')).toMatchObject({ done: [{ status: 'attached' }] });
      expect([mode, mounts]).toEqual(['1755', '1']); // sticky, as every bpffs
      expect(JSON.parse(detached ?? '')).toMatchObject({ done: [{ name: a }] });
      expect(left).toBe('0');
      expect(xdpOf(a).mode).toBe('none');
    }));
});

it('variants are real ones', () =>
  withLab((lab) => {
    const one = readFileSync(compileVariant(lab, 'one', (source) => source));
    const two = readFileSync(compileVariant(lab, 'two', sameWithOtherTag));
    expect(one.equals(two)).toBe(false);
    expect(() => edit('text', 'nothing', '')).toThrow('does not contain');
    expect(existsSync(join(root, 'bpf/falcodrop.bpf.c'))).toBe(true);
  }));

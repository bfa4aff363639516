/**
 * Root's part: maps made and pinned, the XDP program attached through a pinned link, replaced under it, taken off.
 *
 * A pinned link outlives every process: drops go on when falcodrop is dead. Replacing the program is BPF_LINK_UPDATE, without
 * a packet in between; a first attach or a detach may reset a NIC's queues for seconds.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { quote } from '../address/address.ts';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { count_kind, encodeSettings, FALCODROP_FORMAT, layout, MAX_SLOTS, mode } from './layout.ts';
import {
  type BpfLink,
  type BpfMap,
  type BpfProgram,
  isNativeError,
  type Link,
  type NativeError,
  native,
} from './native.ts';
import { loadInstance, loadSet, pinnedMapNames, type Sizes } from './object.ts';
import { defaultPinDir, isOwnMount, linkPin, notReachable, type PinPaths, pinPaths, preparePinDir } from './pins.ts';
import { PinnedSet } from './set.ts';

export type XdpMode = 'native' | 'generic';

/** Who may write the block maps besides root. */
export interface Service {
  readonly uid: number;
  readonly gid: number;
}

/** An XDP program in the hook. `link`: a bpf_link holds it, else it was attached over netlink. */
export interface Holder {
  readonly programId: number;
  readonly name: string;
  readonly mode: string;
  readonly link: boolean;
}

export interface InterfaceReport {
  readonly name: string;
  readonly ifindex: number;
  readonly up: boolean;
  readonly driver: string;
  readonly mtu: number;
  readonly rxQueues: number;
  readonly txQueues: number;
  /** Ours, or somebody else's; null when the hook is free. */
  readonly holder: Holder | null;
  /** The slot of its counters when it is attached by us. */
  readonly attachment: Attachment | null;
}

export interface Attachment {
  readonly ifindex: number;
  readonly name: string;
  readonly mode: XdpMode;
  readonly slot: number;
  readonly programId: number;
}

export type AttachStatus = 'attached' | 'replaced' | 'unchanged';

export interface AttachOutcome {
  readonly status: AttachStatus;
  readonly attachment: Attachment;
}

/** ARPHRD_ETHER of uapi/linux/if_arp.h. */
const ethernet = 1;
/** IFF_UP. */
const up = 1;

/** Owner kinds and modes of the pins: DESIGN's table. Everything else in a set is 0640. */
const serviceWritable = new Set([
  'blocked_v4',
  'blocked_v6',
  'blocked_cidr_v4',
  'blocked_cidr_v6',
  'scopes',
  'hints',
  'drop_samples',
  'change',
  'change_cidr',
]);

/** Interfaces in a hint: a host of containers has hundreds. */
const mostNamed = 20;

/** Throws `interface_missing`, naming what is there, or `no_ethernet_header`, naming the lower device. */
export function findInterface(name: string, links: readonly Link[] = native().netlink.links()): Link {
  const link = links.find((candidate) => candidate.name === name);
  if (link === undefined) {
    const names = links.filter((candidate) => candidate.type === ethernet).map((candidate) => candidate.name);
    throw new FalcodropError(
      'interface_missing',
      `there is no interface ${quote(name)} here`,
      `there are: ${names.slice(0, mostNamed).join(', ')}${names.length > mostNamed ? ` and ${names.length - mostNamed} more` : ''}`,
    );
  }
  return link;
}

export function requireEthernet(link: Link, links: readonly Link[]): void {
  if (link.type === ethernet) return;
  const lower = link.lowerElsewhere ? undefined : links.find((candidate) => candidate.ifindex === link.lower);
  throw new FalcodropError(
    'no_ethernet_header',
    `${link.name} has no Ethernet header (${link.kind ?? `type ${link.type}`}): blocked packets would still arrive`,
    lower === undefined
      ? 'attach to the physical interface that carries it'
      : `attach to ${lower.name}, which carries it`,
  );
}

export function inspectInterface(pinDir: string, name: string): InterfaceReport {
  const link = findInterface(name);
  return {
    name,
    ifindex: link.ifindex,
    up: (link.flags & up) !== 0,
    driver: driverOf(link),
    mtu: link.mtu,
    rxQueues: link.rxQueues,
    txQueues: link.txQueues,
    holder: holderOf(link),
    attachment: attachments(pinDir).find((attachment) => attachment.ifindex === link.ifindex) ?? null,
  };
}

function driverOf(link: Link): string {
  if (link.kind !== null) return link.kind;
  try {
    return basename(readlinkSync(`/sys/class/net/${link.name}/device/driver`));
  } catch {
    return 'unknown';
  }
}

function holderOf(link: Link): Holder | null {
  if (link.xdp.mode === 'none') return null;
  const { programId } = link.xdp;
  const ask = <T>(question: () => T): T | null => {
    try {
      return question();
    } catch (error) {
      if (isNativeError(error)) return null; // gone meanwhile, or asked without CAP_SYS_ADMIN
      throw error;
    }
  };
  return {
    programId,
    name: ask(() => native().programInfoById(programId).name) ?? 'unknown',
    mode: link.xdp.mode,
    link: ask(() => native().linkHolding(link.ifindex)) !== null,
  };
}

/** What our pinned links hold now. Devices that are gone are left out. */
export function attachments(pinDir: string): Attachment[] {
  const paths = pinPaths(pinDir);
  if (!existsSync(paths.links)) return [];
  const links = native().netlink.links();
  const slots = readSlots(paths);
  const found: Attachment[] = [];
  for (const pin of readPins(paths)) {
    const link = links.find((candidate) => candidate.ifindex === pin);
    // Without root's right to open the link: the program in the hook of an interface that has a pin and a slot is ours.
    const slot = slots.indexOf(pin);
    if (link === undefined || link.xdp.mode === 'none' || slot < 0) continue;
    found.push({
      ifindex: pin,
      name: link.name,
      mode: link.xdp.mode === 'generic' ? 'generic' : 'native',
      slot,
      programId: link.xdp.programId,
    });
  }
  return found;
}

function readPins(paths: PinPaths): number[] {
  return readdirSync(paths.links)
    .map((name) => /^if(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number);
}

/** interfaces[slot] = ifindex, 0 = free. */
function readSlots(paths: PinPaths): number[] {
  const set = new PinnedSet(paths.dir);
  try {
    const map = set.map('interfaces', true);
    return Array.from({ length: MAX_SLOTS }, (_, slot) => map.lookup(u32(slot))?.readUInt32LE(0) ?? 0);
  } finally {
    set.close();
  }
}

export interface AttachOptions {
  readonly mode: XdpMode | 'auto';
  readonly sizes: Partial<Sizes>;
  readonly service: Service;
  /** Puts claims into fresh maps, before the first packet meets them. Called without the lock, which it needs itself. */
  readonly restore?: () => Promise<void>;
  /** Global mode and allows, before the first packet meets them. Called with the lock of the block maps held. */
  readonly prepare?: () => Promise<void>;
}

/**
 * Attaches one interface after the other; what was attached before a failure stays. `sizes` only at the first attach:
 * later ones reuse the pinned sizes, and other ones are refused (`sizes_differ`).
 */
export async function attach(
  pinDir: string,
  names: readonly string[],
  options: AttachOptions,
): Promise<AttachOutcome[]> {
  requireRoot('attach');
  const links = native().netlink.links();
  const wanted = [...new Set(names)].map((name) => findInterface(name, links));
  for (const link of wanted) requireEthernet(link, links);

  const paths = pinPaths(pinDir);
  const existed = existsSync(paths.dir);
  const mounted = preparePinDir(pinDir);
  const begun = !existsSync(paths.lock);
  let lock = await takeLock(paths, options.service);
  fault('attach.locked');
  const outcomes: AttachOutcome[] = [];
  let made: string | null = null;
  try {
    removeUnused(paths);
    made = existsSync(paths.current) ? null : makeSet(paths, options.sizes, options.service);
    removeStale(paths);
    // Also when an attach was cut short between its maps and its first link.
    if (options.restore !== undefined && readPins(paths).length === 0) {
      lock.release();
      await options.restore();
      fault('attach.restored');
      lock = await takeLock(paths, options.service);
    }
    const set = new PinnedSet(pinDir);
    try {
      if (made === null) requireSizes(set, options.sizes);
      await options.prepare?.();
      fault('attach.moded');
      for (const link of wanted) outcomes.push(attachOne(paths, set, link, options.mode));
    } finally {
      set.close();
    }
    return outcomes;
  } catch (error) {
    // Everything as it was: what was made for an attach that failed wholly goes again.
    if (outcomes.length === 0) {
      if (made !== null) removeSet(paths, made);
      if (begun && !existsSync(paths.current)) purgeDir(paths, { mount: mounted, directory: !existed });
    }
    throw error;
  } finally {
    lock.release();
  }
}

function attachOne(paths: PinPaths, set: PinnedSet, link: Link, wanted: XdpMode | 'auto'): AttachOutcome {
  const maps = (name: string): BpfMap => set.map(name, false);
  const pin = linkPin(paths, link.ifindex);
  const interfaces = set.map('interfaces');
  const slots = Array.from({ length: MAX_SLOTS }, (_, slot) => interfaces.lookup(u32(slot))?.readUInt32LE(0) ?? 0);

  if (existsSync(pin)) {
    requireHere(link, pin);
    const slot = slotFor(link, slots);
    const held: XdpMode = link.xdp.mode === 'generic' ? 'generic' : 'native';
    if (wanted !== 'auto' && wanted !== held) {
      throw new FalcodropError(
        'xdp_other_mode',
        `${link.name} is attached in ${held} mode`,
        `detach it first: falcodrop detach ${link.name}, then attach with --xdp ${wanted}`,
      );
    }
    interfaces.update(u32(slot), u32(link.ifindex));
    const program = loadInstance(maps, slot);
    const pinned = native().openLink(pin);
    try {
      const before = native().programInfoById(pinned.info.programId);
      if (before.tag === program.info.tag) {
        return {
          status: 'unchanged',
          attachment: { ifindex: link.ifindex, name: link.name, mode: held, slot, programId: before.id },
        };
      }
      pinned.update(program);
      fault('attach.updated');
      return {
        status: 'replaced',
        attachment: { ifindex: link.ifindex, name: link.name, mode: held, slot, programId: program.info.id },
      };
    } finally {
      pinned.close();
      program.close();
    }
  }

  const holder = holderOf(link);
  if (holder !== null) throw busy(link, holder);
  const slot = slotFor(link, slots);
  clearCounters(set.map('counters'), slot);
  const program = loadInstance(maps, slot);
  try {
    const { link: held, mode: got } = createLink(program, link, wanted);
    try {
      fault('attach.linked');
      interfaces.update(u32(slot), u32(link.ifindex));
      fault('attach.slotted');
      held.pin(pin);
      fault('attach.kept');
      chmodSync(pin, 0o600);
    } catch (error) {
      held.detach();
      interfaces.update(u32(slot), u32(0));
      throw error;
    } finally {
      held.close();
    }
    return {
      status: 'attached',
      attachment: { ifindex: link.ifindex, name: link.name, mode: got, slot, programId: program.info.id },
    };
  } finally {
    program.close();
  }
}

/** Its own, also one left by a process that was killed between taking the slot and pinning; else a free one. */
function slotFor(link: Link, slots: readonly number[]): number {
  const own = slots.indexOf(link.ifindex);
  const slot = own >= 0 ? own : slots.indexOf(0);
  if (slot < 0) throw new FalcodropError('failed', `no more than ${MAX_SLOTS} interfaces can be attached`);
  return slot;
}

/** Interface indexes repeat in every network namespace, and pins are named after them: one namespace, one pin directory. */
function requireHere(link: Link, pin: string): void {
  const pinned = native().openLink(pin);
  const { programId } = pinned.info;
  pinned.close();
  if (link.xdp.programId === programId) return;
  throw new FalcodropError(
    'failed',
    `${pin} belongs to another interface than ${link.name}, one of another network namespace with the same index`,
    'give each network namespace a pin directory of its own: FALCODROP_PIN_DIR',
  );
}

/** Native first; generic on EOPNOTSUPP alone, which is the driver saying that it has no native XDP. */
function createLink(program: BpfProgram, link: Link, wanted: XdpMode | 'auto'): { link: BpfLink; mode: XdpMode } {
  const first: XdpMode = wanted === 'generic' ? 'generic' : 'native';
  try {
    return { link: native().attachXdp(program, link.ifindex, first), mode: first };
  } catch (error) {
    if (!isNativeError(error)) throw error;
    if (wanted === 'auto' && error.code === 'EOPNOTSUPP') return createLink(program, link, 'generic');
    throw refusal(program, link, first, error);
  }
}

/** One sentence an operator can act on, with the kernel's own words where it gives some. */
function refusal(program: BpfProgram, link: Link, tried: XdpMode, error: NativeError): FalcodropError {
  if (error.code === 'EBUSY' || error.code === 'EEXIST') {
    const holder = holderOf(findInterface(link.name));
    if (holder !== null) return busy(link, holder);
  }
  if (error.code === 'EPERM') return notReachable(`XDP of ${link.name}`, error);
  if (error.code === 'ENODEV')
    return new FalcodropError('interface_missing', `${link.name} went away`, undefined, error);
  const words = native().explainXdpRefusal(program, link.ifindex, tried);
  const said = words === null ? `${error.code}` : `${error.code}: ${words}`;
  if (error.code === 'EOPNOTSUPP') {
    return new FalcodropError(
      'xdp_unsupported',
      `the driver of ${link.name} (${driverOf(link)}) has no ${tried} XDP (${said})`,
      tried === 'native' ? 'attach with --xdp generic' : undefined,
      error,
    );
  }
  if (error.code === 'ERANGE' || /mtu/i.test(words ?? '')) {
    return new FalcodropError(
      'xdp_mtu',
      `the MTU of ${link.name} (${link.mtu}) is too large for native XDP (${said})`,
      `lower it (ip link set ${link.name} mtu 3498) or attach with --xdp generic`,
      error,
    );
  }
  return new FalcodropError(
    'xdp_attach',
    `the kernel refused ${tried} XDP on ${link.name} (${said})`,
    tried === 'native' ? 'see what it says; --xdp generic works on every Ethernet interface' : undefined,
    error,
  );
}

function busy(link: Link, holder: Holder): FalcodropError {
  const how = holder.link ? 'held by a bpf_link' : 'attached over netlink';
  const remedy = holder.link
    ? 'stop the program that holds the link (bpftool link), or use another interface'
    : `take it off if it is not needed: ip link set ${link.name} ${holder.mode === 'generic' ? 'xdpgeneric' : 'xdp'} off`;
  return new FalcodropError(
    holder.mode === 'generic' || holder.mode === 'native' ? 'xdp_busy' : 'xdp_other_mode',
    `${link.name} already has an XDP program: ${holder.name}, id ${holder.programId}, ${holder.mode} mode, ${how}`,
    remedy,
  );
}

export interface DetachOutcome {
  readonly name: string;
  readonly ifindex: number;
}

/** Takes interfaces off; `names` null = all. With `purge` the maps go too, and every block with them. */
export async function detach(
  pinDir: string,
  names: readonly string[] | null,
  { purge }: { purge: boolean },
): Promise<DetachOutcome[]> {
  requireRoot('detach');
  const paths = pinPaths(pinDir);
  const links = native().netlink.links();
  const lock = await lockDirectory(paths);
  try {
    removeStale(paths);
    const pinned = readPins(paths);
    const chosen =
      names === null
        ? pinned
        : names.map((name) => {
            const link = findInterface(name, links);
            if (!pinned.includes(link.ifindex)) {
              throw new FalcodropError('not_attached', `${name} is not attached`, 'falcodrop status tells what is');
            }
            requireHere(link, linkPin(paths, link.ifindex));
            return link.ifindex;
          });
    const done: DetachOutcome[] = [];
    for (const ifindex of chosen) {
      const link = native().openLink(linkPin(paths, ifindex));
      // The same index in another network namespace is another interface: by its program it is known whose the pin is.
      const { programId } = link.info;
      const here = links.find((candidate) => candidate.ifindex === ifindex && candidate.xdp.programId === programId);
      try {
        link.detach();
      } finally {
        link.close();
      }
      fault('detach.detached');
      unlinkSync(linkPin(paths, ifindex));
      fault('detach.unpinned');
      freeSlot(paths, ifindex);
      fault('detach.freed');
      done.push({ ifindex, name: here?.name ?? `if${ifindex}` });
    }
    if (purge) {
      const left = readPins(paths);
      if (left.length > 0) {
        throw new FalcodropError(
          'usage',
          'the maps are still in use by other interfaces',
          'purge with all of them: falcodrop detach --all --purge',
        );
      }
      const current = currentSet(paths);
      if (current !== null) removeSet(paths, current);
      removeUnused(paths);
      fault('purge.removed');
      purgeDir(paths, { mount: pinDir === defaultPinDir, directory: true });
    }
    return done;
  } finally {
    lock.release();
  }
}

/** In the map itself and not through the set: what another version attached can be taken off, too. */
function freeSlot(paths: PinPaths, ifindex: number): void {
  const path = join(paths.current, 'interfaces');
  if (!existsSync(path)) return;
  const interfaces = native().openMap(path);
  try {
    const { valueSize, maxEntries } = interfaces.info;
    if (valueSize !== layout.interface_slot.size) return;
    for (let slot = 0; slot < maxEntries; slot++) {
      if (interfaces.lookup(u32(slot))?.readUInt32LE(0) === ifindex) interfaces.update(u32(slot), u32(0));
    }
  } finally {
    interfaces.close();
  }
}

/**
 * Links whose device is gone have ifindex 0 and can not be updated (ENOLINK): unpinned, their slots freed. That no interface
 * here has the index says nothing: it may be one of another network namespace.
 */
function removeStale(paths: PinPaths): void {
  for (const ifindex of readPins(paths)) {
    const path = linkPin(paths, ifindex);
    const link = native().openLink(path);
    const gone = link.info.ifindex === 0;
    link.close();
    if (!gone) continue;
    unlinkSync(path);
    freeSlot(paths, ifindex);
  }
}

/** What `current` is made as, to be renamed into place. */
const freshLink = 'current-new';

/** Makes `set-N`, pins maps and change programs in it with their owners, then points `current` there. Returns its name. */
function makeSet(paths: PinPaths, sizes: Partial<Sizes>, service: Service): string {
  const numbers = readdirSync(paths.dir).map((name) => Number(/^set-(\d+)$/.exec(name)?.[1] ?? 0));
  const name = `set-${Math.max(0, ...numbers) + 1}`;
  const dir = join(paths.dir, name);
  const object = loadSet(sizes);
  try {
    mkdirSync(dir, { mode: 0o755 });
    chmodSync(dir, 0o755);
    fault('attach.placed');
    const settings = object.map('settings');
    settings.update(
      u32(0),
      encodeSettings({
        format: FALCODROP_FORMAT,
        mode: mode.MODE_ENFORCE,
        deadline: 0n,
        modeAfter: mode.MODE_ENFORCE,
        sampling: 1,
        neverDrop: [],
      }),
    );
    settings.close();
    // The drop clock is CLOCK_BOOTTIME from the first entry on, whatever suspends there were before.
    const hints = object.map('hints');
    const { monotonicNs, boottimeNs } = native().clocks();
    const suspendedNs = boottimeNs - monotonicNs;
    const first = Buffer.alloc(layout.hints.size);
    // Less is the time between the two readings.
    if (suspendedNs > 1_000_000n) first.writeBigUInt64LE(suspendedNs, layout.hints.members.skew_ns[0]);
    hints.update(u32(0), first);
    hints.close();
    for (const mapName of pinnedMapNames(object)) {
      const map = object.map(mapName);
      map.pin(join(dir, mapName));
      map.close();
      fault('attach.pinning');
    }
    for (const programName of ['change', 'change_cidr']) {
      const program = object.program(programName);
      program.pin(join(dir, programName));
      program.close();
    }
    fault('attach.pinned');
    for (const pin of readdirSync(dir)) {
      const writable = serviceWritable.has(pin);
      chownSync(join(dir, pin), writable ? service.uid : 0, service.gid);
      chmodSync(join(dir, pin), writable ? 0o660 : 0o640);
    }
    fault('attach.owned');
    const fresh = join(paths.dir, freshLink);
    symlinkSync(name, fresh);
    renameSync(fresh, paths.current);
    fault('attach.current');
    return name;
  } catch (error) {
    if (existsSync(dir)) removeSet(paths, name);
    throw error;
  } finally {
    object.close();
  }
}

/** Throws `sizes_differ`. */
export function requireSizes(set: PinnedSet, sizes: Partial<Sizes>): void {
  for (const [option, given, name] of [
    ['--addresses', sizes.addresses, 'blocked_v4'],
    ['--prefixes', sizes.prefixes, 'blocked_cidr_v4'],
  ] as const) {
    const pinned = set.map(name).info.maxEntries;
    if (given !== undefined && given !== pinned) {
      throw new FalcodropError(
        'sizes_differ',
        `${option} ${given} was asked, but the pinned maps were made for ${pinned}`,
        `leave ${option} out to use them, or begin anew: falcodrop detach --all --purge`,
      );
    }
  }
}

/** "current" first: cut short after that, what is left is a set that nobody uses, and {@link removeUnused} takes it. */
function removeSet(paths: PinPaths, name: string): void {
  if (currentSet(paths) === name) unlinkSync(paths.current);
  const dir = join(paths.dir, name);
  if (!existsSync(dir)) return;
  for (const pin of readdirSync(dir)) {
    unlinkSync(join(dir, pin));
    fault('purge.unpinning');
  }
  rmdirSync(dir);
}

function currentSet(paths: PinPaths): string | null {
  try {
    return readlinkSync(paths.current);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Under the lock: sets, and a link to one, that a process left which was killed while it made or removed them. */
function removeUnused(paths: PinPaths): void {
  const current = currentSet(paths);
  for (const name of readdirSync(paths.dir)) {
    if (/^set-\d+$/.test(name) && name !== current) removeSet(paths, name);
    else if (name === freshLink) unlinkSync(join(paths.dir, name));
  }
}

/**
 * Removes the empty directories and, where it is ours, the mount: the one at the default place. Any other bpffs was mounted
 * by somebody else, who may have pins there.
 */
function purgeDir(paths: PinPaths, what: { readonly mount: boolean; readonly directory: boolean }): void {
  for (const dir of [paths.links, paths.lock, paths.samples, paths.root]) if (existsSync(dir)) rmdirSync(dir);
  // What the kernel itself put there (maps.debug, progs.debug) has a dot, which no pin can have.
  if (readdirSync(paths.dir).some((name) => !name.includes('.'))) return;
  if (isOwnMount(paths.dir)) {
    if (!what.mount) return;
    // Lazily: the lock that is held is a directory there.
    native().unmount(paths.dir, true);
  }
  if (what.directory) rmdirSync(paths.dir);
}

/**
 * The lock is a directory (bpffs takes no file), 0770 root:service, so that only writers of the maps can hold it; the lock of
 * the samples' reader is another, 0750: who may open it may hold it. Root's own, 0700, is one that no service can hold up.
 */
async function takeLock(paths: PinPaths, service: Service): ReturnType<typeof lockDirectory> {
  for (;;) {
    for (const [dir, mode, gid] of [
      [paths.links, 0o755, 0],
      [paths.lock, 0o770, service.gid],
      [paths.samples, 0o750, service.gid],
      [paths.root, 0o700, 0],
    ] as const) {
      if (existsSync(dir)) continue;
      mkdirSync(dir, { recursive: true, mode });
      chmodSync(dir, mode);
      chownSync(dir, 0, gid);
    }
    try {
      return await lockDirectory(paths);
    } catch (error) {
      if (!(error instanceof FalcodropError) || error.code !== 'pin_dir_missing') throw error;
      // purged while it was waited for
    }
  }
}

/** The exclusive lock, on the directory that is there: one purged while it was waited for is nobody's any more. */
async function lockDirectory(paths: PinPaths): Promise<{ release(): void }> {
  for (;;) {
    const ino = statSync(paths.lock, { throwIfNoEntry: false })?.ino;
    if (ino === undefined) {
      throw new FalcodropError(
        'pin_dir_missing',
        `there are no falcodrop maps under ${paths.dir}`,
        'nothing is attached with this pin directory',
      );
    }
    const lock = await native().lock(paths.lock, 'exclusive', 10_000);
    if (lock === null) {
      throw new FalcodropError(
        'lock_busy',
        `another falcodrop has held ${paths.lock} for 10 s`,
        'find it: fuser, or lsof',
      );
    }
    if (statSync(paths.lock, { throwIfNoEntry: false })?.ino === ino) return lock;
    lock.release();
  }
}

function clearCounters(counters: BpfMap, slot: number): void {
  const first = slot * count_kind.COUNT_KINDS;
  const empty = Buffer.alloc(possibleCpus() * layout.total.size);
  for (let kind = 0; kind < count_kind.COUNT_KINDS; kind++) counters.update(u32(first + kind), empty);
}

let cpus: number | undefined;

/** As the kernel counts per-CPU values: /sys/devices/system/cpu/possible, "0-7" or "0,2-3". */
export function possibleCpus(): number {
  cpus ??= readFileSync('/sys/devices/system/cpu/possible', 'utf8')
    .trim()
    .split(',')
    .reduce((sum, range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return sum + last - first + 1;
    }, 0);
  return cpus;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function requireRoot(verb: string): void {
  if (process.geteuid?.() !== 0) {
    throw new FalcodropError(
      'not_permitted',
      `"falcodrop ${verb}" loads and attaches BPF programs, which is root’s part`,
      `sudo falcodrop ${verb} …`,
    );
  }
}

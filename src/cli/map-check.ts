/**
 * `falcodrop map check`: whether what is pinned is what this version makes and trusts. Finds, names the way out, changes
 * nothing.
 */
import { readdirSync, statfsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { formatPrefix } from '../address/prefix.ts';
import type { Config } from '../config/config.ts';
import { FalcodropError } from '../errors.ts';
import {
  blockOddities,
  type ExpectedMap,
  expectedMaps,
  expectedPrograms,
  type LinkReading,
  mapFlagNames,
  mapTypeName,
  type Oddity,
  type Pin,
  type Place,
  programTypeName,
  rawEntries,
  rawTarget,
  readLinks,
  readPlace,
  readSet,
  readSlots,
  type SetReading,
} from '../kernel/inspect.ts';
import { decodeBlock, FALCODROP_FORMAT, hint_prefixes, layout } from '../kernel/layout.ts';
import { native } from '../kernel/native.ts';
import { pinDirOf } from '../kernel/pins.ts';
import { type BlockMapName, blockMapNames } from '../kernel/set.ts';
import { accountNames, readAccountId } from './account.ts';
import type { Call } from './call.ts';
import { formatOf } from './map-dump.ts';
import { portsOf, tryMap } from './map-words.ts';
import { clean } from './output/clean.ts';
import { paint } from './output/colour.ts';
import { readConfig } from './settings.ts';

export interface Finding {
  /** Stable; each is a sentence of its own below. */
  readonly code:
    | 'not_bpffs'
    | 'current_link'
    | 'directory_missing'
    | 'directory_owner'
    | 'directory_mode'
    | 'leftover'
    | 'pin_missing'
    | 'pin_kind'
    | 'pin_layout'
    | 'pin_owner'
    | 'service_owner'
    | 'pin_mode'
    | 'frozen'
    | 'foreign_pin'
    | 'format'
    | 'settings_mode'
    | 'hint_missing'
    | 'skew'
    | 'scope_empty'
    | 'foreign_entries'
    | 'link_gone'
    | 'link_elsewhere'
    | 'link_old_set'
    | 'link_hook'
    | 'slot_missing'
    | 'slot_stale'
    | 'not_attached'
    | 'unchecked';
  /** `wrong` makes it exit 1; `note` is worth knowing. */
  readonly severity: 'wrong' | 'note';
  /** Path, or name in the set. */
  readonly where: string;
  readonly message: string;
  /** The way out. */
  readonly hint: string;
}

const anew = 'begin anew: falcodrop detach --all --purge, then attach (the ledger keeps what is blocked)';
const reattach = 'attach again: falcodrop attach IF';

/** BPF_FS_MAGIC of uapi/linux/magic.h. */
const bpffsMagic = 0xcafe4a11;

export async function checkMaps(call: Call): Promise<void> {
  const { answer, environment } = call;
  const set = readSet(pinDirOf(environment));
  const findings = [...findAll(set), ...(await findService(call, set))];
  const isWrong = findings.some(({ severity }) => severity === 'wrong');
  if (isWrong) answer.worsen(1);
  if (answer.json) {
    answer.object({ set: set.dir, format: formatOf(set), ok: !isWrong, findings });
    return;
  }
  for (const { severity, where, message, hint } of findings) {
    const word = severity === 'wrong' ? paint('wrong', 'red', answer.colour) : paint('note', 'dim', answer.colour);
    answer.line(`${word}  ${clean(where)}: ${clean(message, 500)}`);
    answer.line(`       ${clean(hint, 500)}`);
  }
  const wrong = findings.filter(({ severity }) => severity === 'wrong').length;
  const pins = Object.keys(expectedMaps).length + Object.keys(expectedPrograms).length;
  if (wrong === 0) answer.line(`${pins} pins of ${set.dir} are as they should be`);
  else answer.line(`${wrong === 1 ? 'one thing is' : `${wrong} things are`} wrong with ${set.paths.dir}`);
}

/** In the order of the way that a packet's entry is found: directories, pins, contents, links. */
export function* findAll(set: SetReading): Generator<Finding> {
  const service = serviceOf(set);
  yield* findPlaces(set, service);
  yield* findPins(set, service);
  yield* findFormat(set);
  yield* findContents(set);
  yield* findLinks(set);
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Whom most of the pins that the service may write belong to. */
function serviceOf({ pins }: SetReading): Owner {
  const votes = new Map<string, { readonly owner: Owner; count: number }>();
  for (const { name, uid, gid } of pins) {
    if (expectedMaps[name]?.writable !== true && !Object.hasOwn(expectedPrograms, name)) continue;
    const vote = votes.get(`${uid}:${gid}`) ?? { owner: { uid, gid }, count: 0 };
    vote.count++;
    votes.set(`${uid}:${gid}`, vote);
  }
  const [most] = [...votes.values()].toSorted((a, b) => b.count - a.count);
  return most?.owner ?? { uid: 0, gid: 0 };
}

/** Whether whom the maps belong to is whom the configuration names: the daemon starts as that user. */
async function findService(call: Call, set: SetReading): Promise<Finding[]> {
  const { uid, gid } = serviceOf(set);
  let config: Config;
  try {
    config = await readConfig(call);
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    const message = `whether they are of the service that the configuration names is not known: ${error.message}`;
    return [note('unchecked', set.dir, message, 'falcodrop check')];
  }
  const { user, group } = config.service;
  // As attach does it: where there is no such user the maps are made root's, and said to be.
  const [ownUid, ownGid] = [readAccountId(user, '/etc/passwd') ?? 0, readAccountId(group, '/etc/group') ?? 0];
  if (uid === ownUid && gid === ownGid) return [];
  const names = accountNames();
  const [is, should] = [`${names.user(uid)}:${names.group(gid)}`, `${names.user(ownUid)}:${names.group(ownGid)}`];
  const message = `the maps are made for ${is}, the service is ${should}, which can not write them`;
  return [wrong('service_owner', set.dir, message, anew)];
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

function* findPlaces(set: SetReading, service: Owner): Generator<Finding> {
  const { paths, target, dir } = set;
  if (statfsSync(paths.dir).type !== bpffsMagic) {
    yield wrong('not_bpffs', paths.dir, 'is no bpffs: what lies there is not pinned', anew);
  }
  if (!/^set-[1-9]\d*$/.test(target)) {
    yield wrong('current_link', paths.current, `points to ${JSON.stringify(target)}, which no attach makes`, anew);
  }
  const link = readPlace(paths.current);
  if (link !== null && link.uid !== 0) {
    yield wrong(
      'current_link',
      paths.current,
      `belongs to user ${link.uid}: it is root's to say which set holds`,
      anew,
    );
  }
  const root: Owner = { uid: 0, gid: 0 };
  const rootForService: Owner = { uid: 0, gid: service.gid };
  for (const [path, owner, mode] of [
    [paths.dir, root, 0o755],
    [dir, root, 0o755],
    [paths.links, root, 0o755],
    [paths.lock, rootForService, 0o770],
    [paths.samples, rootForService, 0o750],
    [paths.root, root, 0o700],
  ] as const) {
    yield* findDirectory(path, owner, mode);
  }
  for (const name of readdirSync(paths.dir)) {
    if (name === 'current-new' || (/^set-\d+$/.test(name) && name !== target)) {
      const message = 'was left by a process that was killed; it takes up memory and does nothing';
      yield note('leftover', join(paths.dir, name), message, 'the next falcodrop attach takes it away');
    }
  }
}

function* findDirectory(path: string, owner: Owner, mode: number): Generator<Finding> {
  const place = readPlace(path);
  if (place === null || place.kind !== 'directory') {
    yield wrong('directory_missing', path, place === null ? 'is missing' : 'is no directory', reattach);
    return;
  }
  if (place.uid !== owner.uid || place.gid !== owner.gid) {
    const names = accountNames();
    const [is, should] = [place, owner].map((each) => `${names.user(each.uid)}:${names.group(each.gid)}`);
    yield wrong('directory_owner', path, `belongs to ${is}, not to ${should}`, `chown ${should} ${path}`);
  }
  // A bpffs adds the sticky bit to its root.
  if ((place.mode & 0o777) !== mode) {
    yield wrong(
      'directory_mode',
      path,
      `has mode ${octal(place.mode)}, not ${octal(mode)}`,
      `chmod ${octal(mode)} ${path}`,
    );
  }
}

function* findPins(set: SetReading, service: Owner): Generator<Finding> {
  const { pins, dir } = set;
  for (const name of [...Object.keys(expectedMaps), ...Object.keys(expectedPrograms)]) {
    const pin = pins.find((each) => each.name === name);
    if (pin === undefined) yield wrong('pin_missing', join(dir, name), 'is missing', anew);
    else yield* findPin(pin, service);
  }
  for (const { name, path } of pins) {
    if (Object.hasOwn(expectedMaps, name) || Object.hasOwn(expectedPrograms, name)) continue;
    const message = 'is none of falcodrop’s: another tool pinned it there, and a purge will remove it';
    yield note('foreign_pin', path, message, 'see what it is (bpftool), and pin it elsewhere');
  }
}

function* findPin(pin: Pin, service: Owner): Generator<Finding> {
  const { name, path, what } = pin;
  const expected = expectedMaps[name];
  if (what.kind === 'closed') {
    yield note('unchecked', path, 'may not be opened by this user', 'run it as root to have all of it checked');
  } else if (expected === undefined ? what.kind !== 'program' : what.kind !== 'map') {
    yield wrong('pin_kind', path, `is no ${expected === undefined ? 'program' : 'map'}`, anew);
  } else if (what.kind === 'program') {
    const type = programTypeName(what.info.type);
    if (type !== expectedPrograms[name] || what.info.name !== name) {
      yield wrong('pin_kind', path, `is ${clean(what.info.name, 20)}, a ${type} program`, anew);
    }
  } else if (what.kind === 'map' && expected !== undefined) {
    const differences = layoutDifferences(what.info, expected);
    if (differences.length > 0) {
      yield wrong('pin_layout', path, `is another version's or another tool's: ${differences.join(', ')}`, anew);
    }
    if (what.info.frozen) yield wrong('frozen', path, 'is frozen: nobody can change it any more, root neither', anew);
  }
  const isWritable = expected?.writable ?? true;
  const owner: Owner = { uid: isWritable ? service.uid : 0, gid: service.gid };
  const mode = isWritable ? 0o660 : 0o640;
  const names = accountNames();
  if (pin.uid !== owner.uid || pin.gid !== owner.gid) {
    const [is, should] = [pin, owner].map((each) => `${names.user(each.uid)}:${names.group(each.gid)}`);
    yield wrong('pin_owner', path, `belongs to ${is}, not to ${should}`, `chown ${should} ${path}`);
  }
  if (pin.mode !== mode) {
    yield wrong('pin_mode', path, `has mode ${octal(pin.mode)}, not ${octal(mode)}`, `chmod ${octal(mode)} ${path}`);
  }
}

function layoutDifferences(
  info: { readonly type: number; keySize: number; valueSize: number; maxEntries: number; flags: number },
  expected: ExpectedMap,
): string[] {
  const flags = mapFlagNames(info.flags).join(' ');
  const pairs: (readonly [what: string, is: string | number, should: string | number])[] = [
    ['type', mapTypeName(info.type), expected.type],
    ['key bytes', info.keySize, expected.key],
    ['value bytes', info.valueSize, expected.value],
    ['flags', flags, expected.flags.join(' ')],
  ];
  if (expected.entries !== null) pairs.push(['entries', info.maxEntries, expected.entries]);
  return pairs.filter(([, is, should]) => is !== should).map(([what, is, should]) => `${what} ${is}, not ${should}`);
}

function* findFormat(set: SetReading): Generator<Finding> {
  const format = formatOf(set);
  if (format !== null && format !== FALCODROP_FORMAT) {
    const message = `says format ${format}, this falcodrop reads and writes format ${FALCODROP_FORMAT}`;
    yield wrong('format', join(set.dir, 'settings'), message, `use the falcodrop that attached them, or ${anew}`);
  }
  const { mode, mode_after } = layout.settings.members;
  const modes = tryMap(set, 'settings', (opened) =>
    [...rawEntries(opened)].flatMap(({ value }) => [value.readUInt32LE(mode[0]), value.readUInt32LE(mode_after[0])]),
  );
  if (modes?.some((code) => code > 2) === true) {
    const message = 'holds a mode that there is not; the XDP program takes it for enforce';
    yield wrong('settings_mode', join(set.dir, 'settings'), message, 'say it anew: falcodrop mode enforce');
  }
}

/** Entries of ours that are there and do not do what they say. */
function* findContents(set: SetReading): Generator<Finding> {
  if (formatOf(set) !== FALCODROP_FORMAT) return;
  const ports = portsOf(set);
  const hints = tryMap(set, 'hints', (opened) => {
    const [first] = rawEntries(opened);
    return first === undefined ? null : Buffer.from(first.value);
  });
  const bits = hints?.readUInt32LE(layout.hints.members.prefixes[0]) ?? null;
  for (const name of blockMapNames) {
    const seen = tryMap(set, name, (opened) => lookAt(name, rawEntries(opened), ports));
    if (seen === null) continue;
    const path = join(set.dir, name);
    const bit = { blocked_cidr_v4: hint_prefixes.PREFIXES_V4, blocked_cidr_v6: hint_prefixes.PREFIXES_V6 };
    if (name in bit && seen.entries > 0 && bits !== null && (bits & bit[name as keyof typeof bit]) === 0) {
      const message = `holds ${count(seen.entries, 'prefix', 'prefixes')}, and hints say that there are none: nothing looks`;
      yield wrong('hint_missing', path, message, 'falcodrop reconcile takes them over');
    }
    if (seen.emptyScopes.length > 0) {
      const message = `${count(seen.emptyScopes.length, 'entry names', 'entries name')} a row of scopes that is empty, and drop${
        seen.emptyScopes.length === 1 ? 's' : ''
      } on every port: ${some(seen.emptyScopes)}`;
      yield wrong('scope_empty', path, message, 'falcodrop reconcile gives them their ports again');
    }
    if (seen.foreign.length > 0) {
      const kinds = [...seen.oddities].toSorted().join(', ');
      const message = `${count(seen.foreign.length, 'entry is', 'entries are')} not as falcodrop writes them (${kinds}): ${some(seen.foreign)}`;
      yield wrong(
        'foreign_entries',
        path,
        message,
        `falcodrop map dump ${name} marks them; falcodrop reconcile decides`,
      );
    }
  }
  if (hints !== null) yield* findSkew(set, hints);
}

interface Look {
  entries: number;
  readonly emptyScopes: string[];
  readonly foreign: string[];
  readonly oddities: Set<Oddity>;
}

/** Names kept of those that are wrong; the rest is a number. */
const mostNamed = 3;

function lookAt(name: BlockMapName, entries: ReturnType<typeof rawEntries>, ports: ReadonlyMap<number, string>): Look {
  const seen: Look = { entries: 0, emptyScopes: [], foreign: [], oddities: new Set() };
  const targetOf = (key: Buffer): string =>
    formatPrefix(rawTarget(name.includes('cidr'), name.endsWith('v4') ? 4 : 6, key));
  for (const entry of entries) {
    seen.entries++;
    const { scope } = decodeBlock(entry.value);
    if (scope !== 0 && !ports.has(scope)) {
      seen.emptyScopes.push(seen.emptyScopes.length < mostNamed ? targetOf(entry.key) : '');
    }
    const oddities = blockOddities(name, entry);
    if (oddities.length === 0) continue;
    seen.foreign.push(seen.foreign.length < mostNamed ? targetOf(entry.key) : '');
    for (const oddity of oddities) seen.oddities.add(oddity);
  }
  return seen;
}

const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;

function some(names: readonly string[]): string {
  const shown = names.slice(0, mostNamed).join(', ');
  return names.length > mostNamed ? `${shown}, …` : shown;
}

/** CLOCK_BOOTTIME and CLOCK_MONOTONIC are two readings: this much between them is no suspend. */
const readingsApartNs = 10_000_000n;

function* findSkew(set: SetReading, hints: Buffer): Generator<Finding> {
  const { monotonicNs, boottimeNs } = native().clocks();
  const off = boottimeNs - monotonicNs - hints.readBigUInt64LE(layout.hints.members.skew_ns[0]);
  if (off >= -readingsApartNs && off <= readingsApartNs) return;
  const message = `the skew is ${Number(off) / 1e9} s off the time spent in suspend: every end is as much too ${off > 0n ? 'late' : 'early'}`;
  yield wrong(
    'skew',
    join(set.dir, 'hints'),
    message,
    'any verb that writes, or the daemon, mends it: falcodrop reconcile',
  );
}

function* findLinks(set: SetReading): Generator<Finding> {
  const { paths } = set;
  const { links, foreign } = readLinks(paths);
  const here = native().netlink.links();
  const slots = tryMap(set, 'interfaces', readSlots);
  const pin = set.pins.find(({ name }) => name === 'blocked_v4');
  const mapId = pin?.what.kind === 'map' ? pin.what.info.id : null;
  for (const name of foreign) {
    const hint = 'see what it is (bpftool), and pin it elsewhere';
    yield note('foreign_pin', join(paths.links, name), 'is no link of an interface', hint);
  }
  if (links.length === 0) {
    yield note('not_attached', paths.links, 'no interface is attached: nothing is dropped', 'falcodrop attach IF');
  }
  for (const link of links) {
    yield* findPlaceOfLink(link);
    const { path, ifindex } = link;
    const device = here.find((candidate) => candidate.ifindex === ifindex);
    const name = device === undefined ? `if${ifindex}` : clean(device.name, 20);
    if (link.link === null) {
      yield note('unchecked', path, 'may not be opened by this user', 'run it as root to have it checked');
    } else if (link.link.ifindex === 0) {
      yield wrong(
        'link_gone',
        path,
        'its interface is gone',
        'attach the one that took its place: falcodrop attach IF',
      );
    } else if (link.link.ifindex !== ifindex) {
      yield wrong(
        'link_elsewhere',
        path,
        `holds the interface with index ${link.link.ifindex}`,
        `rm ${path}, and attach again`,
      );
    } else {
      const { program } = link.link;
      if (program !== null && mapId !== null && !program.mapIds.includes(mapId)) {
        const message = `the program on ${name} looks into another set than ${basename(set.dir)}: what is blocked now passes`;
        yield wrong('link_old_set', path, message, `falcodrop attach ${name} replaces it without a gap`);
      }
      if (device === undefined) {
        const message = 'its interface is not in this network namespace';
        yield note('link_elsewhere', path, message, 'one network namespace, one pin directory: FALCODROP_PIN_DIR');
      } else if (program !== null && device.xdp.programId !== program.id) {
        const message = `the XDP hook of ${name} runs another program (id ${device.xdp.programId}) than this link's (${program.id})`;
        yield wrong('link_hook', path, message, `see what it is (bpftool net), then falcodrop attach ${name}`);
      }
    }
    if (slots !== null && !slots.includes(ifindex)) {
      yield wrong('slot_missing', path, `${name} has no slot to count in`, `falcodrop attach ${name}`);
    }
  }
  for (const [slot, ifindex] of (slots ?? []).entries()) {
    if (ifindex === 0 || links.some((link) => link.ifindex === ifindex)) continue;
    const where = `${join(set.dir, 'interfaces')}[${slot}]`;
    yield note(
      'slot_stale',
      where,
      `is held for index ${ifindex}, which has no link`,
      'it is used again when that one is attached',
    );
  }
}

function* findPlaceOfLink(link: Place & Pick<LinkReading, 'link'>): Generator<Finding> {
  if (link.uid !== 0 || link.gid !== 0) {
    yield wrong(
      'pin_owner',
      link.path,
      `belongs to ${link.uid}:${link.gid}, and whoever opens it can detach`,
      `chown 0:0 ${link.path}`,
    );
  }
  if (link.mode !== 0o600) {
    yield wrong('pin_mode', link.path, `has mode ${octal(link.mode)}, not 0600`, `chmod 0600 ${link.path}`);
  }
}

function wrong(code: Finding['code'], where: string, message: string, hint: string): Finding {
  return { code, severity: 'wrong', where, message, hint };
}

function note(code: Finding['code'], where: string, message: string, hint: string): Finding {
  return { code, severity: 'note', where, message, hint };
}

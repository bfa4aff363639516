/** `falcodrop attach IF…` */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { prepareState } from '../blocklist/ledger/files.ts';
import type { Config } from '../config/config.ts';
import { defaultConfigPath } from '../config/path.ts';
import { FalcodropError } from '../errors.ts';
import { readCaller } from '../host/caller.ts';
import { sessionInterfaces } from '../host/carrier.ts';
import {
  type AttachOutcome,
  attach,
  findInterface,
  type InterfaceReport,
  inspectInterface,
  requireEthernet,
  requireSizes,
  type Service,
  type XdpMode,
} from '../kernel/attach.ts';
import { type ModeWish, modeNow, withMode } from '../kernel/mode.ts';
import { native } from '../kernel/native.ts';
import type { Sizes } from '../kernel/object.ts';
import { isOwnMount, pinDirOf, pinPaths, requirePinPlace } from '../kernel/pins.ts';
import { PinnedSet } from '../kernel/set.ts';
import { changeSettings, lockRoot, type SettingsChange } from '../kernel/settings.ts';
import { parseDuration } from '../time/duration.ts';
import { readAccountId } from './account.ts';
import { breakGlass, forgetBoots, type Glass, readSigns } from './breakglass.ts';
import { type Call, flag, isRoot, stateDirOf, text } from './call.ts';
import { attachedHere } from './circumstance.ts';
import { failureOf } from './failure.ts';
import { clearGlass, markedMode, markGlass } from './glass.ts';
import type { Note } from './output/answer.ts';
import { clean } from './output/clean.ts';
import { untilText } from './output/entry.ts';
import { protectKernel } from './protect.ts';
import { ask } from './question.ts';
import type { Restored } from './reconcile.ts';
import { runReconcile } from './reconcile-child.ts';
import { openRootAudit } from './root-audit.ts';
import { namedConfig, readConfig, storeSettings } from './settings.ts';

/** Entries of one map; 2^24 preallocated hash entries take 2 GB. */
const mostEntries = 1 << 24;

export async function attachInterfaces(call: Call): Promise<void> {
  const mode = (text(call, 'xdp') ?? 'auto') as XdpMode | 'auto';
  const sizes = readSizes(call);
  const names = await interfacesOf(call);
  const pinDir = pinDirOf(call.environment);
  const given = text(call, 'revertAfter');
  const revertAfter = given === undefined ? null : parseDuration(given);
  if (flag(call, 'check')) {
    check(call, pinDir, names, { mode, sizes });
    return;
  }
  if (!isRoot()) {
    throw new FalcodropError(
      'not_permitted',
      '"falcodrop attach" loads and attaches BPF programs, which is root\'s part',
      'sudo falcodrop attach …',
    );
  }

  const config = await readConfig(call);
  const attached = new Set(attachedHere(pinDir).map(({ name }) => name));
  const exists = existing();
  const fresh = names.filter((name) => !attached.has(name) && exists(name));
  await askAboutSession(call, fresh, 'Attaching may reset it for seconds');

  const makesMaps = !existsSync(pinPaths(pinDir).current);
  const { service, notes: absent } = serviceOf(config.service);
  prepareLedger(call, service);
  const boots = { stateDir: stateDirOf(call.environment), nowMs: call.clock.now() };
  const isForgotten = text(call, 'mode') === 'enforce' && forgetBoots(boots);
  const glass = breakGlass(readSigns({ ...boots, configFile: resolve(namedConfig(call) ?? defaultConfigPath) }));
  const broken: Note[] = [];
  if (glass.why !== null) {
    const message = `${glass.why}: blocks are in mode ${glass.mode}${glass.remedy === null ? '' : `; ${glass.remedy}`}`;
    broken.push({ code: 'glass_broken', message });
  }
  if (isForgotten) {
    const message = `the starts before this one are forgotten: blocks are in mode ${glass.mode}`;
    broken.push({ code: 'boots_forgotten', message });
  }
  // Said before anything is done, and in JSON with the first interface.
  for (const { message } of broken) call.answer.note(message);
  if (!call.answer.json) broken.length = 0;
  const restoring: { notes: Note[]; restored: Restored | null } = { notes: [], restored: null };
  const restore = (): Promise<void> => restoreClaims(call, restoring);
  const prepared: Note[] = [];
  let change: SettingsChange | null = null;
  // Once, before the first interface: the kernel goes back by itself also when this process dies in the middle.
  const prepare = async (): Promise<void> => {
    if (change !== null) return;
    await protectFresh(call, config, prepared);
    change = await setMode(call, pinDir, { glass, revertAfter }, prepared);
  };
  const hadMount = isMounted(pinDir);
  const audit = openRootAudit(call, service);
  let done = false;
  for (const name of names) {
    // Before it is done: a session over this interface may stall meanwhile.
    if (fresh.includes(name)) call.answer.note(`a first attach may reset ${name} for a moment`);
    try {
      const [outcome] = await attach(pinDir, [name], { mode, sizes, service, restore, prepare });
      if (outcome === undefined) continue;
      const notes: Note[] = [
        ...broken.splice(0),
        ...(makesMaps && !done ? absent : []),
        ...restoring.notes.splice(0),
        ...prepared.splice(0),
      ];
      const { restored } = restoring;
      restoring.restored = null;
      if (!done && !hadMount && isMounted(pinDir)) {
        notes.push({ code: 'mounted', message: `a bpffs was mounted at ${pinDir} for the pins` });
      }
      done = true;
      const { status, attachment } = outcome;
      if (status !== 'unchanged') {
        audit({ action: status, interface: attachment.name, detail: `${attachment.mode} mode` });
      }
      tell(call, outcome, { wanted: mode, general: notes, restored });
    } catch (error) {
      call.answer.fail(failureOf(error, call.verb));
    }
    await call.answer.flush();
  }
  if (done) storeSettings(call, config);
  else if (change !== null) await takeBack(pinDir, change);
}

/**
 * What shall always pass, before the first packet meets a block. A file that is refused, or tries that are full, are no reason to
 * leave the interface open: they are told.
 */
async function protectFresh(call: Call, config: Config, notes: Note[]): Promise<void> {
  try {
    const { reading } = await protectKernel(call, { config });
    for (const { message } of reading.problems) notes.push({ code: 'protect', message });
    notes.push(...reading.notes);
  } catch (error) {
    const { message } = failureOf(error, call.verb);
    notes.push({
      code: 'protect',
      message: `what shall always pass is not all in the kernel: ${message}; falcodrop protect`,
    });
  }
}

/**
 * The mode that broken glass asks for, and what is to be gone back to. A mode that a hand has set stays, and so does what is
 * pending: another interface is no confirmation.
 */
async function setMode(
  call: Call,
  pinDir: string,
  { glass, revertAfter }: { readonly glass: Glass; readonly revertAfter: number | null },
  notes: Note[],
): Promise<SettingsChange> {
  const stateDir = stateDirOf(call.environment);
  const lock = await lockRoot(pinDir);
  try {
    const change = changeSettings(pinDir, (settings) => {
      const { mode: held } = modeNow(settings);
      const mode = glass.why !== null ? glass.mode : markedMode(stateDir) === held ? 'enforce' : held;
      const wish: ModeWish = { mode, revertAfter, revertTo: 'off' };
      return mode === held && revertAfter === null ? settings : withMode(settings, wish);
    });
    if (glass.why !== null) markGlass(stateDir, glass.mode);
    else clearGlass(stateDir);
    const { mode, seconds, after } = modeNow(change.after);
    if (after !== null) {
      const until = untilText(seconds, call.clock.now()).replace('until', 'at');
      notes.push({ code: 'reverts', message: `mode ${mode}: it goes to ${after} ${until}, unless: falcodrop confirm` });
    } else if (mode !== 'enforce' && glass.why === null) {
      notes.push({ code: `mode_${mode}`, message: `the mode is ${mode}, as it was set: falcodrop mode enforce` });
    }
    return change;
  } finally {
    lock.release();
  }
}

/** No interface was attached after all: what was attached before is not to go off for that. */
async function takeBack(pinDir: string, { before, after }: SettingsChange): Promise<void> {
  if (before === after) return;
  try {
    const lock = await lockRoot(pinDir);
    try {
      const { mode, deadline, modeAfter } = before;
      changeSettings(pinDir, (now) => (now.deadline === after.deadline ? { ...now, mode, deadline, modeAfter } : now));
    } finally {
      lock.release();
    }
  } catch {
    // the maps went with the attach that failed
  }
}

/** Those that were named, or those of the configuration. Throws `usage` when there are neither. */
async function interfacesOf(call: Call): Promise<readonly string[]> {
  if (call.operands.length > 0) return [...new Set(call.operands)];
  const { interfaces } = await readConfig(call);
  if (interfaces.length > 0) return interfaces;
  throw new FalcodropError(
    'usage',
    'no interface was named',
    'falcodrop attach IF…, or name them in the configuration: interfaces: [IF]',
  );
}

/** Root's part of the ledger: its directory, and an empty file that is the service's. Drops need none. */
function prepareLedger(call: Call, service: Service): void {
  try {
    prepareState(stateDirOf(call.environment), service);
  } catch (error) {
    call.answer.note(`the ledger can not be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/**
 * Claims of the ledger into fresh maps, by a process of its own: it becomes the service for good, which this one can not, for
 * it has an interface to attach yet. Failing is said and no reason to leave the interface open.
 */
async function restoreClaims(call: Call, restoring: { notes: Note[]; restored: Restored | null }): Promise<void> {
  const { restored, notes, failure } = await runReconcile(call);
  restoring.restored = restored;
  for (const message of notes) restoring.notes.push({ code: 'restore', message });
  if (failure !== null) {
    const message = `claims of the ledger may be missing in the new maps: ${failure.message}`;
    restoring.notes.push({ code: 'restore', message });
  }
  if (restored === null) return;
  for (const message of restored.refusals) restoring.notes.push({ code: 'refused', message });
  const isFirst = restored.isNew && restored.claims === 0 && restored.refused === 0;
  if (!isFirst) restoring.notes.push({ code: 'restored', message: restoredText(restored) });
}

function restoredText({ claims, forced, refused }: Restored): string {
  const were = (count: number): string => `${count} ${count === 1 ? 'was' : 'were'}`;
  const parts = [
    forced === 0 ? '' : `, of which ${were(forced)} forced by root`,
    refused === 0 ? '' : `; ${were(refused)} refused by the guard`,
  ];
  const what = `${claims} ${claims === 1 ? 'claim was' : 'claims were'} restored${parts.join('')}`;
  return `${what}. Packet counters begin anew`;
}

/** Throws `usage`. */
function readSizes(call: Call): Partial<Sizes> {
  const read = (option: string): number | undefined => {
    const given = text(call, option);
    if (given === undefined) return undefined;
    const value = /^[1-9]\d{0,8}$/.test(given) ? Number(given) : 0;
    if (value >= 1 && value <= mostEntries) return value;
    throw new FalcodropError(
      'usage',
      `--${option} must be a number from 1 to ${mostEntries}`,
      'leave it out for the default',
    );
  };
  const addresses = read('addresses');
  const prefixes = read('prefixes');
  return { ...(addresses === undefined ? {} : { addresses }), ...(prefixes === undefined ? {} : { prefixes }) };
}

function existing(): (name: string) => boolean {
  const names = new Set(
    native()
      .netlink.links()
      .map((link) => link.name),
  );
  return (name) => names.has(name);
}

/** A NIC that resets may take the session in which this is typed with it. */
export async function askAboutSession(call: Call, names: readonly string[], what: string): Promise<void> {
  const caller = readCaller(call.environment);
  if (caller === null || names.length === 0) return;
  const carriers = sessionInterfaces(caller).map(({ name }) => name);
  const risked = names.filter((name) => carriers.includes(name));
  if (risked.length > 0) await ask(call, `${risked.join(', ')} carries your SSH session. ${what}. Go on?`);
}

/** The notes matter when maps are made: then their owners are set. */
function serviceOf({ user, group }: { readonly user: string; readonly group: string }): {
  readonly service: Service;
  readonly notes: readonly Note[];
} {
  const uid = readAccountId(user, '/etc/passwd');
  const gid = readAccountId(group, '/etc/group');
  const notes: Note[] = [];
  if (uid === null) {
    const message = `there is no user ${user}: the maps are root's, and "falcodrop run" needs root`;
    notes.push({ code: 'no_service_user', message });
  }
  if (gid === null) notes.push({ code: 'no_service_group', message: `there is no group ${group}: root's is taken` });
  return { service: { uid: uid ?? 0, gid: gid ?? 0 }, notes };
}

function isMounted(dir: string): boolean {
  return existsSync(dir) && isOwnMount(dir);
}

interface Told {
  readonly wanted: XdpMode | 'auto';
  readonly general: readonly Note[];
  /** Null: the maps were there, with all that is in them. */
  readonly restored: Restored | null;
}

function tell({ answer }: Call, { status, attachment }: AttachOutcome, { wanted, general, restored: all }: Told): void {
  const { name, ifindex, mode, slot, programId } = attachment;
  const shown = clean(name);
  const notes = [...general];
  if (status === 'attached' && mode === 'generic' && wanted === 'auto') {
    const message = `the driver of ${name} has no native XDP: generic mode is slower, and works`;
    notes.push({ code: 'generic_fallback', message });
  }
  if (answer.json) {
    const restored = all === null ? null : { claims: all.claims, forced: all.forced, refused: all.refused };
    answer.object({ interface: name, ifindex, status, xdp: mode, slot, program_id: programId, restored, notes });
    return;
  }
  const said = {
    attached: `${shown} attached, ${mode} mode`,
    replaced: `${shown}: the program was replaced under its link, without a gap (${mode} mode)`,
    unchanged: `${shown} unchanged, attached in ${mode} mode`,
  };
  answer.line(said[status]);
  for (const { message } of notes) answer.note(message);
}

/** What an attach would do. Nothing is changed, and no privilege is needed but to read what is pinned already. */
function check(call: Call, pinDir: string, names: readonly string[], wanted: Wanted): void {
  const { answer } = call;
  for (const name of names) {
    try {
      const report = inspectInterface(pinDir, name);
      const { would, why } = foresee(pinDir, report, wanted);
      if (answer.json) {
        const { holder } = report;
        answer.object({
          interface: name,
          ifindex: report.ifindex,
          up: report.up,
          driver: report.driver,
          mtu: report.mtu,
          rx_queues: report.rxQueues,
          tx_queues: report.txQueues,
          holder:
            holder === null
              ? null
              : {
                  program_id: holder.programId,
                  name: holder.name,
                  mode: holder.mode,
                  link: holder.link,
                  ours: report.attachment !== null,
                },
          would,
          why,
        });
      } else {
        describe(call, report, why);
      }
    } catch (error) {
      answer.fail(failureOf(error, call.verb));
    }
  }
}

interface Wanted {
  readonly mode: XdpMode | 'auto';
  readonly sizes: Partial<Sizes>;
}

interface Foresight {
  readonly would: 'attach' | 'replace' | 'refuse';
  readonly why: string;
}

function foresee(pinDir: string, { name, attachment, holder }: InterfaceReport, { mode, sizes }: Wanted): Foresight {
  try {
    requirePinPlace(pinDir);
    const links = native().netlink.links();
    requireEthernet(findInterface(name, links), links);
    checkSizes(pinDir, sizes);
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    return { would: 'refuse', why: error.hint === undefined ? error.message : `${error.message}; ${error.hint}` };
  }
  if (attachment !== null) {
    if (mode !== 'auto' && mode !== attachment.mode) {
      return { would: 'refuse', why: `it is attached in ${attachment.mode} mode: falcodrop detach ${name} first` };
    }
    return { would: 'replace', why: 'it is attached: another program would replace the present one without a gap' };
  }
  if (holder !== null) {
    const how = holder.link ? 'held by a bpf_link' : 'attached over netlink';
    return { would: 'refuse', why: `${holder.name} (id ${holder.programId}, ${holder.mode}, ${how}) has the hook` };
  }
  const tried = mode === 'auto' ? 'native mode, or generic mode where the driver has no native one' : `${mode} mode`;
  return { would: 'attach', why: `it would be attached in ${tried}; the interface may reset for a moment` };
}

/** Throws `sizes_differ`; what is not pinned, or not for this user to read, is not compared. */
function checkSizes(pinDir: string, sizes: Partial<Sizes>): void {
  let set: PinnedSet;
  try {
    set = new PinnedSet(pinDir);
  } catch (error) {
    if (error instanceof FalcodropError && (error.code === 'pin_dir_missing' || error.code === 'not_permitted')) return;
    throw error;
  }
  try {
    requireSizes(set, sizes);
  } finally {
    set.close();
  }
}

function describe({ answer }: Call, report: InterfaceReport, why: string): void {
  const { holder } = report;
  answer.line(`${clean(report.name)}  (${report.up ? 'up' : 'down'})`);
  answer.line(`  driver  ${report.driver}`);
  answer.line(`  mtu     ${report.mtu}`);
  answer.line(`  queues  ${report.rxQueues} rx, ${report.txQueues} tx`);
  const how = holder?.link === true ? 'held by a bpf_link' : 'over netlink';
  const who = report.attachment === null ? '' : ', ours';
  answer.line(
    `  hook    ${holder === null ? 'free' : `${holder.name}, id ${holder.programId}, ${holder.mode}, ${how}${who}`}`,
  );
  answer.line(`  attach  ${clean(why, 1000)}`);
}

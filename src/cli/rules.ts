/** `falcodrop rules deploy BUNDLE`: rule files for Falco, put in place in one step, and taken back when Falco does not like them. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  fsyncSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { type Bundle, readBundle } from '../falco/bundle.ts';
import {
  defaultFalcoDir,
  type FalcoConfiguration,
  filesAt,
  healthUrlOf,
  inside,
  readFalcoConfiguration,
  readRegularFile,
  rulesKey,
  rulesPaths,
} from '../falco/configuration.ts';
import { findFalco, findVersion, refusedAsAWhole, refusedRules } from '../falco/falco.ts';
import {
  awaitHealth,
  findUnits,
  type Patience,
  patience,
  requireHealthUrl,
  restartFalco,
  type Service,
} from '../falco/service.ts';
import { rulesPath } from '../falco/setup.ts';
import { type FalcoVersion, isSince, requireNewEnough } from '../falco/version.ts';
import { native } from '../kernel/native.ts';
import { parseDuration } from '../time/duration.ts';
import { readAction } from './action.ts';
import { type Call, flag, isRoot, text } from './call.ts';
import {
  type HeldTree,
  holdTree,
  makeFolder,
  openFalcoDir,
  readRecord,
  requireOwn,
  requireWritable,
  stamp,
  syncFolder,
  writeRecord,
  writeWhole,
} from './falco-tree.ts';
import { plural } from './output/amount.ts';
import { clean } from './output/clean.ts';
import { readSetupRecord } from './setup.ts';

const recordName = 'deployed.json';

/** Beside rules.d: what relative links in it mean stays the same. After the exchange it is what rules.d was. */
const stageName = '.rules.d.falcodrop';

const backupsKept = 10;

/** Bytes of a file that is there. */
const largestThere = 16 << 20;

/** SIGHUP: the connection of who watches is gone. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Of somebody else, below rules.d. */
const mostEntries = 2_000;

/** What the last bundle brought: of the files in rules.d these are replaced by the next one, and no others. */
interface DeployRecord {
  readonly version: 1;
  /** `changing`: it was not seen to end. */
  readonly state: 'changing' | 'done';
  /** SHA-256 by name. */
  readonly files: Readonly<Record<string, string>>;
}

type FileStatus = 'added' | 'changed' | 'removed' | 'unchanged';

interface Deployment {
  readonly status: 'deployed' | 'planned' | 'unchanged';
  readonly version: FalcoVersion;
  readonly program: string;
  readonly dir: string;
  readonly files: readonly { readonly name: string; readonly status: FileStatus }[];
  readonly passedOver: readonly string[];
  readonly validated: readonly string[];
  readonly backup: string | null;
  readonly restarted: string | null;
  /** What was seen to be well. */
  readonly health: readonly string[];
}

export async function rules(call: Call): Promise<void> {
  const { operands } = readAction(call, ['deploy']);
  const [path, ...others] = operands;
  if (path === undefined || others.length > 0) {
    throw new FalcodropError('usage', 'rules deploy takes one bundle', 'name a folder or a .tar.gz of rule files');
  }
  const { environment } = call;
  const dir = openFalcoDir(text(call, 'falcoDir') ?? defaultFalcoDir);
  const program = findFalco(text(call, 'falco'), environment);
  if (program === null) {
    throw new FalcodropError(
      'falco_missing',
      'no falco was found here to validate the rules',
      'name it: --falco PATH; for a Falco in a container a script that runs it there, with the same paths',
    );
  }
  const version = await findVersion(text(call, 'falcoVersion'), program, { environment });
  requireNewEnough(version);
  const bundle = await readBundle(path, { environment });
  requireWritable(dir);
  const tree = await holdTree(dir);
  try {
    await deploy(call, tree, { dir, program, version, bundle, patience: patienceOf(call) });
  } finally {
    tree.release();
  }
}

interface Given {
  readonly patience: Patience;
  readonly dir: string;
  readonly program: string;
  readonly version: FalcoVersion;
  readonly bundle: Bundle;
}

async function deploy(call: Call, tree: HeldTree, given: Given): Promise<void> {
  const { environment } = call;
  const { dir, program, version, bundle } = given;
  const place = join(dir, 'rules.d');
  const stage = join(dir, stageName);
  const configuration = readFalcoConfiguration(dir, version);
  requireRead(configuration, place);
  if (lstatSync(place, { throwIfNoEntry: false }) !== undefined) requireOwn(place);
  saveLeftover(call, tree, stage);
  const record = readDeployRecord(tree);
  const files = compare(tree, place, bundle, record);
  const base = { version, program, dir, files, passedOver: bundle.passedOver };
  const none = { validated: [], backup: null, restarted: null, health: [] };

  if (files.every(({ status }) => status === 'unchanged') && record?.state !== 'changing') {
    if (record === null && !flag(call, 'dryRun')) writeRecord(tree, recordName, recordOf(bundle, 'done'));
    tell(call, { ...base, ...none, status: 'unchanged' });
    return;
  }
  const service = flag(call, 'dryRun') ? null : await chooseService(call, configuration);

  const main = configuration.isHere ? configuration.main : null;
  try {
    build(tree, place, stage, bundle, files);
    const list = readingOrder(configuration, version, place, stage);
    const refused = await refusedRules(program, main, list, { environment });
    if (refused !== null) {
      throw new FalcodropError(
        'falco_validate',
        `falco --validate refuses the rules; nothing was changed: ${refused.replaceAll(stage, place)}`,
        'mend the bundle',
      );
    }
    if (flag(call, 'dryRun')) {
      rmSync(stage, { recursive: true });
      tell(call, { ...base, ...none, status: 'planned', validated: ['falco --validate'] });
      return;
    }
  } catch (error) {
    rmSync(stage, { recursive: true, force: true });
    throw error;
  }

  // A signal rolls back; a second one does not wait for Falco's health any more.
  let interruption = new AbortController();
  const onSignal = (): void => interruption.abort();
  for (const name of signals) process.on(name, onSignal);
  try {
    exchange(tree, stage, place, { ...recordOf(bundle, 'changing'), files: { ...record?.files, ...shas(bundle) } });
    const trouble = await troubleWith(given, main, service, { environment, signal: interruption.signal });
    if (trouble !== null) {
      interruption = new AbortController();
      exchange(tree, stage, place, record);
      rmSync(stage, { recursive: true });
      const within = { environment, signal: interruption.signal };
      const after =
        service === null || !trouble.isRestarted ? '' : `, ${await restartedAgain(service, given.patience, within)}`;
      throw new FalcodropError(
        'falco_restart',
        `${trouble.why}; rolled back: the former rules are in place${after}`,
        'the bundle is not deployed; journalctl -u falco-\\* tells more of Falco',
      );
    }
  } finally {
    for (const name of signals) process.removeListener(name, onSignal);
  }
  const backup = keepBackup(call, tree, stage);
  writeRecord(tree, recordName, recordOf(bundle, 'done'));
  tell(call, {
    ...base,
    status: 'deployed',
    validated: ['falco --validate', ...(main === null ? [] : ['falco --dry-run'])],
    backup,
    restarted: service === null ? null : service.restart.join(' '),
    health: service === null ? [] : [service.unit, service.healthUrl].filter((each) => each !== null),
  });
}

interface Trouble {
  readonly why: string;
  /** Falco may run with the new rules, or not at all. */
  readonly isRestarted: boolean;
}

interface Within {
  readonly environment: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

/** Of the whole, restarting, and health; null: all went well. */
async function troubleWith(
  { program, patience: patient }: Given,
  main: string | null,
  service: Service | null,
  within: Within,
): Promise<Trouble | null> {
  const interrupted = 'it was interrupted';
  const refused = main === null ? null : await refusedAsAWhole(program, main, within);
  if (within.signal.aborted) return { why: interrupted, isRestarted: false };
  if (refused !== null) return { why: `falco --dry-run fails with these rules: ${refused}`, isRestarted: false };
  if (service === null) return null;
  const failed = await restartFalco(service, within);
  if (within.signal.aborted) return { why: interrupted, isRestarted: true };
  if (failed !== null) return { why: `Falco could not be restarted: ${failed}`, isRestarted: true };
  const unwell = await awaitHealth(service, within, patient);
  if (within.signal.aborted) return { why: interrupted, isRestarted: true };
  return unwell === null ? null : { why: `Falco is not well with these rules: ${unwell}`, isRestarted: true };
}

async function restartedAgain(service: Service, patient: Patience, within: Within): Promise<string> {
  const failed = await restartFalco(service, within);
  if (failed !== null) return `but Falco could not be restarted with them: ${failed}`;
  const unwell = await awaitHealth(service, within, patient);
  return unwell === null ? 'and Falco runs with them' : `but Falco is not well with them either: ${unwell}`;
}

/** Of --wait; what is asked for a short time need not stay well for longer. */
function patienceOf(call: Call): Patience {
  const given = text(call, 'wait');
  if (given === undefined) return patience;
  const waitMs = parseDuration(given) * 1_000;
  const atMost = (ms: number): number => Math.min(ms, waitMs / 2);
  return {
    ...patience,
    waitMs,
    steadyMs: atMost(patience.steadyMs),
    steadyAloneMs: atMost(patience.steadyAloneMs),
  };
}

/** Null: not restarted. Throws `falco_restart` where it is not clear how, before anything is changed. */
async function chooseService(call: Call, configuration: FalcoConfiguration): Promise<Service | null> {
  const { restart, health } = call.options;
  if (restart === false) return null;
  const healthUrl =
    health === 'none' ? null : typeof health === 'string' ? requireHealthUrl(health) : healthUrlOf(configuration);
  if (typeof restart === 'string') {
    const [program, ...words] = restart.split(/\s+/).filter((word) => word !== '');
    if (program === undefined) {
      throw new FalcodropError(
        'usage',
        '--restart takes a program and its words',
        "it is like --restart 'docker restart falco'",
      );
    }
    return { restart: [program, ...words], unit: null, healthUrl };
  }
  const units = await findUnits({ environment: call.environment });
  const [unit] = units;
  const remedy = "say how: --restart 'systemctl restart NAME', --restart 'docker restart falco', or --no-restart";
  if (unit === undefined) {
    throw new FalcodropError('falco_restart', 'no unit of Falco runs here or is enabled; nothing was done', remedy);
  }
  if (units.length > 1) {
    throw new FalcodropError(
      'falco_restart',
      `several units of Falco run here: ${units.join(', ')}; nothing was done`,
      remedy,
    );
  }
  return { restart: ['systemctl', 'restart', unit], unit, healthUrl };
}

/** Throws `falco_unfit` where Falco would not read what is deployed. */
function requireRead(configuration: FalcoConfiguration, place: string): void {
  const { main, dir } = configuration;
  if (main === null || rulesPaths(configuration).some((path) => inside(dir, path) === place)) return;
  throw new FalcodropError(
    'falco_unfit',
    `${place} is not read by Falco: ${rulesKey(configuration)} of its configuration names other places`,
    `add ${place} to it, as its last one`,
  );
}

/** The rule files as Falco reads them, what is staged in the place of rules.d. */
function readingOrder(
  configuration: FalcoConfiguration,
  version: FalcoVersion,
  place: string,
  stage: string,
): string[] {
  const { dir, main } = configuration;
  const named = main === null ? ['falco_rules.yaml', 'falco_rules.local.yaml', 'rules.d'] : rulesPaths(configuration);
  return named.flatMap((path) => {
    const at = main === null ? join(dir, path) : inside(dir, path);
    const files = filesAt(at === place ? stage : at);
    const isFolder = files.some((file) => file !== at);
    // Since 0.41 a folder's others are not read.
    return isFolder && isSince(version, '0.41') ? files.filter((file) => /\.ya?ml$/.test(file)) : files;
  });
}

function compare(
  tree: HeldTree,
  place: string,
  { files }: Bundle,
  record: DeployRecord | null,
): { name: string; status: FileStatus }[] {
  const there = new Map(filesAt(place).map((path) => [basename(path), path]));
  const laid = readSetupRecord(tree)?.files.map(({ path }) => path) ?? [];
  const compared = [...files].map(([name, bytes]) => {
    const path = there.get(name);
    if (path === undefined) return { name, status: 'added' as const };
    if (readRegularFile(path, largestThere)?.equals(bytes) === true) return { name, status: 'unchanged' as const };
    if (name === basename(rulesPath) && laid.includes(rulesPath)) {
      throw new FalcodropError(
        'bundle_invalid',
        `${name} of the bundle is another file than "falcodrop setup falco" has laid`,
        'take it out of the bundle, or: falcodrop setup falco --remove',
      );
    }
    return { name, status: 'changed' as const };
  });
  const gone = Object.keys(record?.files ?? {}).filter((name) => !files.has(name) && there.has(name));
  return [...compared, ...gone.map((name) => ({ name, status: 'removed' as const }))];
}

/** What rules.d shall be: others' files as they are, the bundle's, and none that only the last bundle had. */
function build(
  tree: HeldTree,
  place: string,
  stage: string,
  bundle: Bundle,
  files: readonly { readonly name: string; readonly status: FileStatus }[],
): void {
  const leave = new Set(files.map(({ name }) => name));
  mkdirSync(stage, { mode: 0o755 });
  const former = lstatSync(place, { throwIfNoEntry: false });
  chmodSync(stage, (former?.mode ?? 0o755) & 0o7777);
  if (former !== undefined) {
    if (isRoot()) chownSync(stage, former.uid, former.gid);
    const left = { entries: mostEntries };
    for (const name of readdirSync(place)) if (!leave.has(name)) copy(join(place, name), join(stage, name), left);
  }
  for (const [name, bytes] of bundle.files) writeWhole(join(stage, name), bytes, 0o644);
  syncFolder(stage);
  syncFolder(tree.dir);
}

/** With owner, mode and times. */
function copy(from: string, to: string, left: { entries: number }): void {
  if (--left.entries < 0) {
    throw new FalcodropError(
      'failed',
      `rules.d has more than ${mostEntries} entries`,
      'move away what Falco needs not',
    );
  }
  const status = lstatSync(from);
  if (status.isSymbolicLink()) {
    symlinkSync(readlinkSync(from), to);
  } else if (status.isDirectory()) {
    mkdirSync(to);
    for (const name of readdirSync(from)) copy(join(from, name), join(to, name), left);
  } else if (status.isFile()) {
    copyFileSync(from, to, constants.COPYFILE_EXCL);
    const descriptor = openSync(to, constants.O_RDONLY);
    fsyncSync(descriptor);
    closeSync(descriptor);
  } else {
    throw new FalcodropError('falco_unsafe_path', `${from} is no file and no folder`, 'move it away');
  }
  if (status.isSymbolicLink()) return;
  if (isRoot()) chownSync(to, status.uid, status.gid);
  chmodSync(to, status.mode & 0o7777);
  lutimesSync(to, status.atimeMs / 1_000, status.mtimeMs / 1_000);
}

/** Of who was killed: before the exchange what should have been deployed, after it what was there. It is kept. */
function saveLeftover(call: Call, tree: HeldTree, stage: string): void {
  if (lstatSync(stage, { throwIfNoEntry: false }) === undefined) return;
  requireOwn(stage);
  const kept = keepBackup(call, tree, stage);
  call.answer.note(`an earlier deployment was cut off; what it had beside rules.d is kept: ${kept}`);
}

function keepBackup({ clock }: Call, { own }: HeldTree, stage: string): string {
  const backups = join(own, 'former-rules');
  mkdirSync(backups, { recursive: true, mode: 0o700 });
  const kept = join(backups, stamp(clock.now(), backups));
  renameSync(stage, kept);
  syncFolder(backups);
  for (const name of readdirSync(backups).toSorted().slice(0, -backupsKept)) {
    rmSync(join(backups, name), { recursive: true });
  }
  return kept;
}

/** At no moment is there no rules.d, or half of one. The record comes first for what is new, and after it for what was. */
function exchange(tree: HeldTree, stage: string, place: string, record: DeployRecord | null): void {
  const isForward = record?.state === 'changing';
  if (isForward) writeRecord(tree, recordName, record);
  try {
    makeFolder(place);
    native().exchangePaths(stage, place);
  } catch (error) {
    if (isForward) rmSync(stage, { recursive: true });
    throw exchangeTrouble(error, place);
  }
  syncFolder(tree.dir);
  if (!isForward) writeRecord(tree, recordName, record);
}

function exchangeTrouble(error: unknown, place: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'EXDEV' && code !== 'EBUSY' && code !== 'EINVAL') return error;
  return new FalcodropError(
    'failed',
    `${place} can not be replaced in one step (${code}): it is a mount of its own, or its file system can not; nothing was changed`,
    'name the directory that is mounted there, from outside: --falco-dir',
    error,
  );
}

function recordOf(bundle: Bundle, state: DeployRecord['state']): DeployRecord {
  return { version: 1, state, files: shas(bundle) };
}

function shas({ files }: Bundle): Record<string, string> {
  return Object.fromEntries([...files].map(([name, bytes]) => [name, shaOf(bytes)]));
}

function shaOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function readDeployRecord(tree: HeldTree): DeployRecord | null {
  return readRecord(tree, recordName, isDeployRecord);
}

function isDeployRecord(value: unknown): value is DeployRecord {
  const { version, state, files } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return (
    version === 1 &&
    (state === 'changing' || state === 'done') &&
    typeof files === 'object' &&
    files !== null &&
    Object.entries(files).every(([name, sha]) => !name.includes('/') && typeof sha === 'string')
  );
}

function tell({ answer }: Call, done: Deployment): void {
  const { status, version, program, dir, files, passedOver, validated, backup, restarted, health } = done;
  if (answer.json) {
    answer.object({
      status,
      falco_version: version.text,
      falco: program,
      falco_dir: dir,
      files,
      passed_over: passedOver,
      validated,
      backup,
      restarted,
      health,
    });
    return;
  }
  for (const { name, status: each } of files) answer.line(`${each.padEnd(9)}  ${clean(name)}`);
  if (passedOver.length > 0) {
    answer.note(
      `passed over, no plain name ending in .yaml: ${passedOver
        .slice(0, 10)
        .map((name) => clean(name, 60))
        .join(', ')}`,
    );
  }
  const count = plural(files.filter((file) => file.status !== 'unchanged').length, 'file');
  if (status === 'unchanged') answer.line(`unchanged: ${clean(join(dir, 'rules.d'))} has this bundle`);
  if (status === 'planned') answer.line(`would deploy ${count}; ${validated.join(' and ')} takes them`);
  if (status !== 'deployed') return;
  answer.line(`deployed ${count} to ${clean(join(dir, 'rules.d'))}, taken by ${validated.join(' and ')}`);
  answer.line(`what was there: ${clean(backup ?? '')}`);
  if (restarted === null) answer.note('Falco was not restarted: it reads them when it is');
  else
    answer.line(
      `restarted (${clean(restarted)})${health.length === 0 ? '' : `, and well: ${clean(health.join(', '))}`}`,
    );
}

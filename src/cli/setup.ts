/** `falcodrop setup falco`: what makes a Falco post its alerts here, told, laid down, taken away. */
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { HttpConfig } from '../config/config.ts';
import type { Secret } from '../config/secret.ts';
import { FalcodropError } from '../errors.ts';
import { defaultFalcoDir, readFalcoConfiguration } from '../falco/configuration.ts';
import { unifiedDiff } from '../falco/diff.ts';
import { findFalco, findVersion, refusedAsAWhole, refusedRules } from '../falco/falco.ts';
import { findUnits } from '../falco/service.ts';
import {
  configPath,
  defaultUrl,
  type PlannedFile,
  planSetup,
  requireUrl,
  rulesPath,
  type SetupPlan,
} from '../falco/setup.ts';
import { type FalcoVersion, requireNewEnough } from '../falco/version.ts';
import { readAction } from './action.ts';
import { type Call, flag, text } from './call.ts';
import {
  type HeldTree,
  holdTree,
  keep,
  lay,
  makeFolder,
  openFalcoDir,
  readLaid,
  readRecord,
  requireOwn,
  requireWritable,
  syncFolder,
  writeRecord,
  writeWhole,
} from './falco-tree.ts';
import { clean } from './output/clean.ts';
import { ask } from './question.ts';
import { readConfig } from './settings.ts';

const recordName = 'laid.json';

/** What was laid, so that exactly that is taken away again. */
interface SetupRecord {
  readonly version: 1;
  readonly files: readonly LaidFile[];
  /** Folders that were made, below the Falco directory. */
  readonly folders: readonly string[];
}

interface LaidFile {
  readonly path: string;
  readonly sha256: string;
  /** What was there before, below our folder; null: nothing. */
  readonly previous: string | null;
}

type FileStatus =
  | 'missing'
  | 'differs'
  | 'equal'
  | 'laid'
  | 'updated'
  | 'replaced'
  | 'unchanged'
  | 'removed'
  | 'restored';

interface ToldFile {
  readonly path: string;
  readonly status: FileStatus;
  readonly why: string | null;
  readonly text: string | null;
  readonly diff: string | null;
  readonly backup: string | null;
}

interface Told {
  readonly status: 'planned' | 'laid' | 'unchanged' | 'removed';
  readonly version: FalcoVersion | null;
  readonly program: string | null;
  readonly dir: string;
  readonly plan: SetupPlan | null;
  readonly files: readonly ToldFile[];
  /** What Falco itself was asked about it. */
  readonly validated: readonly string[];
  /** Null: Falco has nothing new to read. */
  readonly restart: string | null;
  readonly notes: readonly { readonly code: string; readonly message: string }[];
}

export async function setup(call: Call): Promise<void> {
  const { operands } = readAction(call, ['falco']);
  if (operands.length > 0) throw new FalcodropError('usage', '"setup falco" takes no more words', 'see --help');
  const ways = ['apply', 'remove', 'diff'].filter((name) => flag(call, name));
  if (ways.length > 1) {
    throw new FalcodropError('usage', `--${ways.join(' and --')} at once is not possible`, 'one after the other');
  }
  const dir = openFalcoDir(text(call, 'falcoDir') ?? defaultFalcoDir);
  if (flag(call, 'remove')) await remove(call, dir);
  else await layOrTell(call, dir);
}

interface Found {
  readonly dir: string;
  readonly version: FalcoVersion;
  readonly program: string | null;
  readonly plan: SetupPlan;
  readonly notes: Told['notes'];
}

async function layOrTell(call: Call, dir: string): Promise<void> {
  const program = findFalco(text(call, 'falco'), call.environment);
  const version = await findVersion(text(call, 'falcoVersion'), program, { environment: call.environment });
  requireNewEnough(version);
  const { url, notes } = await findUrl(call);
  if (!flag(call, 'apply')) {
    const plan = planSetup({ dir, version, url });
    const files = plan.files.map((file) => compared(call, dir, file));
    tell(call, { status: 'planned', version, program, dir, plan, files, validated: [], restart: null, notes });
    return;
  }
  requireWritable(dir);
  const tree = await holdTree(dir);
  try {
    // What is there is read under the lock.
    await apply(call, tree, { dir, version, program, plan: planSetup({ dir, version, url }), notes });
  } finally {
    tree.release();
  }
}

/** Where falcodrop listens, by its own configuration. */
async function findUrl(call: Call): Promise<{ readonly url: string; readonly notes: Told['notes'] }> {
  const given = text(call, 'url');
  if (given !== undefined) return { url: requireUrl(given), notes: [] };
  try {
    const { http } = await readConfig(call);
    const address = { '0.0.0.0': '127.0.0.1', '::': '::1' }[http.address] ?? http.address;
    const host = address.includes(':') ? `[${address}]` : address;
    const off = {
      code: 'http_off',
      message: 'falcodrop does not listen for HTTP: http.enabled is false in its configuration',
    };
    const url = http.port === 0 ? defaultUrl : `http://${host}:${http.port}/falco`;
    const refused = http.enabled ? whyRefused(http, `${host}:${http.port === 0 ? 2804 : http.port}`) : null;
    if (refused !== null && flag(call, 'apply')) throw refused;
    const notes = refused === null ? [] : [{ code: 'url_refused', message: `${refused.message}: ${refused.hint}` }];
    return { url: URL.canParse(url) ? url : defaultUrl, notes: http.enabled ? notes : [off] };
  } catch (error) {
    if (!(error instanceof FalcodropError) || !['not_permitted', 'file_unreadable'].includes(error.code)) throw error;
    const message = `falcodrop's own configuration may not be read: taken to listen at ${defaultUrl}`;
    return { url: defaultUrl, notes: [{ code: 'url_assumed', message }] };
  }
}

/** Falco takes a refusal for success, so every alert would be lost and nobody hear of it; null: it is not refused. */
function whyRefused({ token, basic, path, tls }: HttpConfig, at: string): FalcodropError | null {
  if (token === null && basic === null && path === null && tls === null) return null;
  const scheme = tls === null ? 'http' : 'https';
  const text = (secret: Secret): string => ('file' in secret ? `$(cat ${secret.file})` : 'SECRET');
  const url =
    path !== null
      ? `${scheme}://${at}/${text(path)}`
      : basic !== null
        ? `${scheme}://${text(basic)}@${at}/`
        : token === null
          ? `${scheme}://${at}/`
          : null;
  const certificates = tls === null ? '' : '; with its ca_cert, and what client_ca asks for, in http_output by hand';
  return new FalcodropError(
    'usage',
    'falcodrop asks who sends alerts here, and a URL without that would be refused',
    url === null
      ? 'Falco can send no token: name http.path or http.basic beside it'
      : `name the whole URL: --url "${url}"${certificates}`,
  );
}

function compared(call: Call, dir: string, { path, text: wanted, why }: PlannedFile): ToldFile {
  const there = readLaid(join(dir, path));
  const status = there === null ? 'missing' : there.equals(Buffer.from(wanted)) ? 'equal' : 'differs';
  const isDiff = flag(call, 'diff');
  const at = join(dir, path);
  const diff = isDiff ? unifiedDiff(there?.toString() ?? '', wanted, [there === null ? '/dev/null' : at, at]) : null;
  return { path: at, status, why, text: isDiff ? null : wanted, diff, backup: null };
}

interface Change {
  readonly file: PlannedFile;
  readonly status: 'laid' | 'updated' | 'replaced' | 'unchanged';
  readonly there: Buffer | null;
}

async function apply(call: Call, tree: HeldTree, { dir, version, program, plan, notes }: Found): Promise<void> {
  const record = readSetupRecord(tree);
  const changes = plan.files.map((file) => changeOf(tree, file, record));
  const told = { version, program, dir, plan, notes };
  if (changes.every(({ status }) => status === 'unchanged')) {
    const files = changes.map(({ file }) => toldFile(dir, file, 'unchanged', null));
    tell(call, { ...told, status: 'unchanged', files, validated: [], restart: null });
    return;
  }
  const foreign = changes.filter(({ status }) => status === 'replaced').map(({ file }) => join(dir, file.path));
  if (foreign.length > 0) {
    await ask(call, `Replace what somebody else has written into ${foreign.join(' and ')}? It is kept as a backup.`);
  }
  const environment = { environment: call.environment };
  const configuration = readFalcoConfiguration(dir, version);
  const main = configuration.isHere ? configuration.main : null;
  const validated: string[] = [];
  if (program !== null) {
    if (main !== null) {
      const why = await refusedAsAWhole(program, main, environment);
      if (why !== null)
        throw refusal('falco --dry-run fails as it is, before anything was changed', why, 'mend that first');
    }
    await validateRules(
      tree,
      program,
      main,
      environment.environment,
      plan.files.find(({ path }) => path === rulesPath),
    );
    validated.push('falco --validate');
  }

  const undo: (() => void)[] = [];
  const leftovers: string[] = [];
  const backups = new Map<string, string>();
  try {
    undo.push(() => writeRecord(tree, recordName, record));
    const entries = new Map(record?.files.map((entry) => [entry.path, entry]));
    const folders = [...(record?.folders ?? [])];
    for (const { file, status, there } of changes) {
      const folder = dirname(file.path);
      if (makeFolder(join(dir, folder))) {
        folders.push(folder);
        undo.push(() => rmdirSync(join(dir, folder)));
      }
      if (status === 'unchanged') continue;
      const former = entries.get(file.path);
      const kept = there === null ? null : keep(tree, file.path, call.clock.now());
      if (status === 'replaced' && kept !== null) backups.set(file.path, join(tree.own, kept));
      const previous = former === undefined ? kept : former.previous;
      entries.set(file.path, { path: file.path, sha256: digestOf(file.text), previous });
      undo.push(() => {
        if (kept === null) rmSync(join(dir, file.path), { force: true });
        else bringBack(join(tree.own, kept), join(dir, file.path));
        syncFolder(join(dir, folder));
      });
      // Who dies here is known by the text that is still there.
      writeRecord(tree, recordName, { version: 1, files: [...entries.values()], folders } satisfies SetupRecord);
      lay(tree, join(dir, file.path), Buffer.from(file.text), file.mode);
      // Our own former text is nobody's loss; undoing needs it until Falco has agreed.
      if (status === 'updated' && kept !== null && previous !== kept) leftovers.push(join(tree.own, kept));
    }
    if (program !== null && main !== null) {
      const why = await refusedAsAWhole(program, main, environment);
      if (why !== null) throw refusal('falco --dry-run fails with what was laid, which was taken away again', why);
      validated.push('falco --dry-run');
    }
  } catch (error) {
    undone(undo, error);
    throw error;
  }
  for (const path of leftovers) rmSync(path, { force: true });
  const files = changes.map(({ file, status }) => toldFile(dir, file, status, backups.get(file.path) ?? null));
  const restart = await restartHint(call);
  tell(call, { ...told, status: 'laid', files, validated, restart, notes: [...notes, ...unvalidated(program, main)] });
}

/** All of it, in the other order; what could not be undone is said with what went wrong first. */
function undone(undo: readonly (() => void)[], first: unknown): void {
  const troubles: string[] = [];
  for (const step of undo.toReversed()) {
    try {
      step();
    } catch (error) {
      troubles.push((error as Error).message);
    }
  }
  if (troubles.length === 0) return;
  const why = `${(first as Error).message}; and not all of it could be undone: ${troubles.join('; ')}`;
  throw new FalcodropError('failed', why, 'what was there is kept in the folder falcodrop/backup', first);
}

function unvalidated(program: string | null, main: string | null): Told['notes'] {
  if (program === null) {
    return [{ code: 'not_validated', message: 'no falco is here to validate it: look at what it says when it starts' }];
  }
  if (main !== null) return [];
  const message =
    'validated are the rules alone: falco.yaml is not there, or names /etc/falco, which is another directory';
  return [{ code: 'not_validated', message }];
}

function toldFile(dir: string, { path, why }: PlannedFile, status: FileStatus, backup: string | null): ToldFile {
  return { path: join(dir, path), status, why, text: null, diff: null, backup };
}

function changeOf({ dir }: HeldTree, file: PlannedFile, record: SetupRecord | null): Change {
  const folder = join(dir, dirname(file.path));
  if (lstatSync(folder, { throwIfNoEntry: false }) !== undefined) requireOwn(folder);
  const there = readLaid(join(dir, file.path));
  if (there === null) return { file, status: 'laid', there };
  if (there.equals(Buffer.from(file.text))) return { file, status: 'unchanged', there };
  const isOurs = record?.files.some(({ path, sha256 }) => path === file.path && sha256 === digestOf(there)) ?? false;
  return { file, status: isOurs ? 'updated' : 'replaced', there };
}

/** From a place where Falco does not see it. Throws `falco_validate`. */
async function validateRules(
  { own }: HeldTree,
  program: string,
  main: string | null,
  environment: NodeJS.ProcessEnv,
  rules: PlannedFile | undefined,
): Promise<void> {
  if (rules === undefined) return;
  const folder = join(own, `stage-${process.pid}.d`);
  mkdirSync(folder, { mode: 0o700 });
  try {
    const file = join(folder, basename(rulesPath));
    writeWhole(file, Buffer.from(rules.text), 0o644);
    const why = await refusedRules(program, main, [file], { environment });
    if (why !== null) throw refusal('falco --validate refuses our rules; nothing was changed', why);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function refusal(what: string, why: string, hint?: string): FalcodropError {
  return new FalcodropError('falco_validate', `${what}: ${why}`, hint);
}

async function remove(call: Call, dir: string): Promise<void> {
  const base = { version: null, program: null, dir, plan: null, validated: [], notes: [] };
  const nothing: Told = { ...base, status: 'unchanged', files: [], restart: null };
  if (lstatSync(join(dir, 'falcodrop'), { throwIfNoEntry: false }) === undefined) {
    tell(call, nothing);
    return;
  }
  requireWritable(dir);
  const tree = await holdTree(dir);
  try {
    const record = readSetupRecord(tree);
    if (record === null) {
      tell(call, nothing);
      return;
    }
    const changed = record.files.filter((entry) => isChanged(tree, entry)).map(({ path }) => join(dir, path));
    if (changed.length > 0) {
      await ask(call, `Remove ${changed.join(' and ')} although changed since? What it says is kept as a backup.`);
    }
    const files = record.files.map((entry): ToldFile => takeAway(call, tree, entry));
    for (const folder of record.folders) removeEmptyFolder(join(dir, folder));
    writeRecord(tree, recordName, null);
    tell(call, { ...base, status: 'removed', files, restart: await restartHint(call) });
  } finally {
    tree.release();
  }
}

/** Neither what we laid nor what was there before. */
function isChanged({ dir, own }: HeldTree, { path, sha256, previous }: LaidFile): boolean {
  const there = readLaid(join(dir, path));
  if (there === null || digestOf(there) === sha256) return false;
  const before = previous === null ? null : readLaid(join(own, previous));
  return before === null || !before.equals(there);
}

function takeAway(call: Call, tree: HeldTree, entry: LaidFile): ToldFile {
  const { dir, own } = tree;
  const at = join(dir, entry.path);
  const there = readLaid(at);
  const told = { path: at, why: null, text: null, diff: null };
  const backup = isChanged(tree, entry) ? join(own, keep(tree, entry.path, call.clock.now())) : null;
  if (entry.previous !== null && readLaid(join(own, entry.previous)) !== null) {
    makeFolder(dirname(at));
    bringBack(join(own, entry.previous), at);
    syncFolder(dirname(at));
    return { ...told, status: 'restored', backup };
  }
  if (there !== null) {
    unlinkSync(at);
    syncFolder(dirname(at));
  }
  return { ...told, status: 'removed', backup };
}

/** The kept file has its place again. rename(2) does nothing where both names are of one file: it was never replaced. */
function bringBack(kept: string, at: string): void {
  renameSync(kept, at);
  rmSync(kept, { force: true });
}

function removeEmptyFolder(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true || readdirSync(path).length > 0) return;
  rmdirSync(path);
  syncFolder(dirname(path));
}

export function readSetupRecord(tree: Pick<HeldTree, 'own'>): SetupRecord | null {
  return readRecord(tree, recordName, isSetupRecord);
}

function isSetupRecord(value: unknown): value is SetupRecord {
  const { version, files, folders } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return (
    version === 1 &&
    Array.isArray(files) &&
    files.every(isLaidFile) &&
    Array.isArray(folders) &&
    folders.every((folder) => folder === dirname(configPath) || folder === dirname(rulesPath))
  );
}

function isLaidFile(value: unknown): value is LaidFile {
  const { path, sha256, previous } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const isKept = typeof previous === 'string' && /^backup\/[0-9TZ-]+\/[a-z_./]+$/.test(previous);
  return (
    (path === configPath || path === rulesPath) &&
    typeof sha256 === 'string' &&
    (previous === null || (isKept && !previous.includes('..')))
  );
}

function digestOf(text: string | Buffer): string {
  return createHash('sha256').update(text).digest('hex');
}

async function restartHint(call: Call): Promise<string> {
  const units = await findUnits({ environment: call.environment });
  return `systemctl restart ${units.length === 1 ? units[0]?.replace(/\.service$/, '') : "'falco-*'"}`;
}

function tell({ answer }: Call, told: Told): void {
  const { status, version, program, dir, plan, files, validated, restart } = told;
  const notes = [...(plan?.notes ?? []), ...told.notes];
  if (answer.json) {
    answer.object({
      status,
      falco_version: version?.text ?? null,
      falco: program,
      falco_dir: dir,
      http_output: plan?.http ?? null,
      files: files.map(({ path, status: each, why, text: contents, diff, backup }) => ({
        path,
        status: each,
        why,
        text: contents,
        diff,
        backup,
      })),
      by_hand: plan?.byHand ?? null,
      validated,
      restart,
      notes,
    });
    return;
  }
  const isDiff = files.some(({ diff }) => diff !== null);
  if (version !== null && !isDiff) {
    answer.line(`Falco ${version.text}${program === null ? '' : ` (${clean(program)})`}, which reads ${clean(dir)}`);
  }
  for (const { path, status: each, why, backup } of isDiff ? [] : files) {
    const kept = backup === null ? '' : `; what was there: ${clean(backup)}`;
    answer.line(`${each.padEnd(9)}  ${clean(path)}${why === null ? '' : `: ${why}`}${kept}`);
  }
  if (status === 'unchanged')
    answer.line(files.length === 0 ? `nothing of ours was laid in ${clean(dir)}` : 'unchanged');
  if (validated.length > 0) answer.line(`validated by ${validated.join(' and ')}`);
  for (const { path, text: contents, diff } of files) {
    if (contents !== null) showText(answer, clean(path), contents);
    if (diff !== null && diff !== '') for (const line of diff.trimEnd().split('\n')) answer.line(clean(line, 2_000));
  }
  if (plan?.byHand !== null && plan?.byHand !== undefined)
    showText(answer, `${clean(dir)}/falco.yaml, by hand`, plan.byHand);
  for (const { message } of notes) answer.note(message);
  if (restart !== null) answer.note(`Falco reads it when it is started again: ${restart}`);
  if (status === 'planned' && !isDiff) answer.note('nothing was changed: falcodrop setup falco --apply lays it down');
}

function showText(answer: Call['answer'], title: string, contents: string): void {
  answer.line('');
  answer.line(`# --- ${title}`);
  for (const line of contents.trimEnd().split('\n')) answer.line(clean(line, 2_000));
}

/**
 * A bundle of rule files: a folder, or a .tar.gz of one. Taken from it are files `*.yaml` and `*.yml` of one level, into memory;
 * nothing of an archive is ever written to the disk under a name that the archive chose.
 */
import { constants, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { isScalar, isSeq, parseAllDocuments } from 'yaml';
import { FalcodropError } from '../errors.ts';
import { readRegularFile } from './configuration.ts';
import { lastWords, type Running, runProgram } from './program.ts';

/** Falco's own rules are one file of 60 KB, all of the maturity levels 170 KB. */
const largestFile = 4 << 20;
const largestWhole = 16 << 20;
const mostFiles = 256;
/** Entries of an archive or a folder, those that are passed over too. */
const mostEntries = 2_000;
/** Of tar's padding beside the files themselves. */
const largestArchive = largestWhole + mostEntries * 2_048;

export interface Bundle {
  /** By name, in the order in which Falco reads them. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** Names of what is no rules file, as it stands there. */
  readonly passedOver: readonly string[];
}

interface Entry {
  /** Without the folder that all lie in. */
  readonly name: string;
  readonly read: () => Buffer;
}

/** Throws `bundle_invalid`; nothing was done then. */
export async function readBundle(path: string, environment: Pick<Running, 'environment' | 'signal'>): Promise<Bundle> {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined) throw invalid(path, 'there is no such folder or archive', 'name a folder or a .tar.gz');
  const entries = status.isDirectory() ? folderEntries(path) : await archiveEntries(path, environment);
  const files = new Map<string, Buffer>();
  const passedOver: string[] = [];
  let size = 0;
  for (const { name, read } of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.ya?ml$/.test(name)) {
      passedOver.push(name);
      continue;
    }
    const bytes = read();
    size += bytes.length;
    files.set(name, bytes);
    if (files.size > mostFiles) throw invalid(path, `it has more than ${mostFiles} rule files`);
    if (size > largestWhole) throw invalid(path, `its rule files are larger than ${largestWhole >> 20} MiB together`);
    requireRules(path, name, bytes);
  }
  if (files.size === 0) throw invalid(path, 'it has no file *.yaml or *.yml, not below a folder, whose name is plain');
  return { files, passedOver };
}

/** What lies in the folder, no deeper. A symbolic link may lead anywhere, as the caller may; an archive's may not. */
function folderEntries(folder: string): Entry[] {
  const entries = readdirSync(folder, { withFileTypes: true });
  if (entries.length > mostEntries) throw invalid(folder, `it has more than ${mostEntries} entries`);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map(({ name }) => ({ name, read: () => readPlain(join(folder, name)) }));
}

function readPlain(path: string): Buffer {
  try {
    const bytes = readRegularFile(path, largestFile, constants.O_NOFOLLOW);
    if (bytes !== null) return bytes;
  } catch (error) {
    if (error instanceof FalcodropError && error.code !== 'not_permitted') {
      throw new FalcodropError('bundle_invalid', error.message, error.hint, error);
    }
    throw error;
  }
  throw invalid(path, 'it is gone');
}

/**
 * Listed and taken apart by tar, which sees bytes on its stdin alone and writes to its stdout: contents one after the other, in
 * the order of the list, whose sizes say where one ends.
 */
async function archiveEntries(path: string, running: Pick<Running, 'environment' | 'signal'>): Promise<Entry[]> {
  const packed = readArchive(path);
  const { TAR_OPTIONS: _, ...environment } = running.environment;
  const tar = async (words: readonly string[], keep: number): Promise<Buffer> => {
    const ended = await runProgram('tar', [...words, '--file=-'], {
      ...running,
      environment: { ...environment, LC_ALL: 'C', TZ: 'UTC' },
      timeoutMs: 30_000,
      input: packed,
      keep,
    });
    if (ended.status === 0) return ended.stdout;
    throw invalid(path, `tar does not read it (${lastWords({ ...ended, stdout: Buffer.alloc(0) }, 3)})`);
  };
  const list = await tar(
    ['--list', '--verbose', '--absolute-names', '--numeric-owner', '--full-time', '--quoting-style=escape'],
    mostEntries * 600,
  );
  const members = membersOf(path, list.toString());
  const whole = members.reduce((sum, { size }) => sum + size, 0);
  const contents = whole === 0 ? Buffer.alloc(0) : await tar(['--extract', '--to-stdout'], whole + 1);
  if (contents.length !== whole) throw invalid(path, 'it holds something else than its list says');
  const shared = sharedFolder(members.map(({ name }) => name));
  let at = 0;
  return members.map(({ name, size }) => {
    const bytes = contents.subarray(at, at + size);
    at += size;
    return { name: name.slice(shared.length), read: () => bytes };
  });
}

function readArchive(path: string): Buffer {
  let packed: Buffer;
  try {
    packed = readRegularFile(path, largestWhole) ?? Buffer.alloc(0);
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'falco_config') throw invalid(path, error.message);
    throw error;
  }
  if (packed[0] !== 0x1f || packed[1] !== 0x8b)
    throw invalid(path, 'it is neither a folder nor gzip', 'name a .tar.gz');
  try {
    return gunzipSync(packed, { maxOutputLength: largestArchive });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const isLarge = code === 'ERR_BUFFER_TOO_LARGE';
    throw invalid(path, isLarge ? `it is larger than ${largestArchive >> 20} MiB when unpacked` : message);
  }
}

interface Member {
  readonly name: string;
  readonly size: number;
}

/** The regular files of tar's list. What could lie outside, or be no file, is refused, whatever its name. */
function membersOf(path: string, list: string): Member[] {
  const lines = list.split('\n').filter((line) => line !== '');
  if (lines.length > mostEntries) throw invalid(path, `it has more than ${mostEntries} entries`);
  const members: Member[] = [];
  const names = new Set<string>();
  let whole = 0;
  for (const line of lines) {
    const found = /^(.)\S* +\S+ +(\S+) +\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d(?:\.\d+)?)? (.+)$/.exec(line);
    const [, kind = '', size = '', name = ''] = found ?? [];
    const about = JSON.stringify(name.slice(0, 80));
    if (found === null) throw invalid(path, `tar says of an entry what is not understood: ${line.slice(0, 80)}`);
    if (kind !== '-' && kind !== 'd')
      throw invalid(path, `${about} is no file and no folder`, 'links and devices are not taken');
    if (name.startsWith('/')) throw invalid(path, `${about} is an absolute path`);
    const steps = name.replace(/\/$/, '').split('/');
    if (steps.includes('..')) throw invalid(path, `${about} leads out of the archive`);
    if (kind === 'd') continue;
    const plain = steps.filter((step) => step !== '' && step !== '.').join('/');
    if (names.has(plain)) throw invalid(path, `${about} is in it twice`);
    names.add(plain);
    if (!/^\d{1,15}$/.test(size)) throw invalid(path, `${about} has no size`);
    if (Number(size) > largestFile) throw invalid(path, `${about} is larger than ${largestFile >> 20} MiB`);
    whole += Number(size);
    if (whole > largestWhole) throw invalid(path, `it is larger than ${largestWhole >> 20} MiB`);
    members.push({ name: plain, size: Number(size) });
  }
  return members;
}

/** `rules/` where all lie in it: how people pack a folder. */
function sharedFolder(names: readonly string[]): string {
  const [first = ''] = names;
  const folder = first.slice(0, first.indexOf('/') + 1);
  return folder !== '' && names.every((name) => name.startsWith(folder)) ? folder : '';
}

/** Falco says what is wrong with a rule; here is seen only that these are rules. */
function requireRules(path: string, name: string, bytes: Buffer): void {
  const about = `${basename(path)}: ${name}`;
  const documents = parseAllDocuments(bytes.toString(), {
    schema: 'core',
    uniqueKeys: false,
    resolveKnownTags: false,
    logLevel: 'error',
  });
  for (const { errors, contents } of Array.isArray(documents) ? documents : []) {
    const [mistake] = errors;
    if (mistake !== undefined)
      throw invalid(about, `it is no YAML: ${mistake.message.split('\n')[0]?.replace(/:$/, '')}`);
    const isNothing = contents === null || (isScalar(contents) && contents.value === null);
    if (!isNothing && !isSeq(contents)) throw invalid(about, 'it is no list of rules, macros and lists');
  }
}

function invalid(path: string, why: string, hint?: string): FalcodropError {
  return new FalcodropError('bundle_invalid', `${path}: ${why}`, hint ?? 'nothing was done');
}

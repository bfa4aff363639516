/**
 * What Falco is configured to do, read as Falco reads it: `falco.yaml`, then (since 0.38) what its `config_files` names, each
 * file merged into what was before. Read only, and bounded in everything that a few bytes can make large.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join, normalize, resolve, sep } from 'node:path';
import { isAlias, isMap, isNode, isScalar, type Node, parseDocument } from 'yaml';
import { FalcodropError } from '../errors.ts';
import { type FalcoVersion, isSince } from './version.ts';

/** Bytes; Falco's own falco.yaml has 60 000. */
const largestFile = 1 << 20;

const mostFiles = 256;

/** Falco's own place, which its configuration names whatever directory it is mounted from. */
export const defaultFalcoDir = '/etc/falco';

/** How a file of `config_files` is merged. Before there was a choice: append. */
export type Strategy = 'append' | 'override' | 'add-only';

interface Setting {
  readonly value: unknown;
  /** The file that set it last. */
  readonly path: string;
}

export interface FalcoConfiguration {
  readonly dir: string;
  /** `falco.yaml`; null where there is none (Falco is in a container, say). */
  readonly main: string | null;
  readonly settings: ReadonlyMap<string, Setting>;
  /** How files of `DIR/config.d` are merged; null: they are not read. */
  readonly fragments: Strategy | null;
  /** Its paths mean files in `dir` as they stand: Falco, run here, reads what lies there. */
  readonly isHere: boolean;
}

/** What is taken to be in a file instead of what is; null: as if it were not there. */
export type Overlay = ReadonlyMap<string, string | null>;

/** Throws `falco_config` for what Falco could not read either, `file_unreadable`, `not_permitted`. */
export function readFalcoConfiguration(
  dir: string,
  version: FalcoVersion,
  overlay: Overlay = new Map(),
): FalcoConfiguration {
  const main = join(dir, 'falco.yaml');
  const settings = new Map<string, Setting>();
  const text = textOf(main, overlay);
  if (text === null) return { dir, main: null, settings, fragments: 'append', isHere: true };
  for (const [key, value] of entriesOf(text, main)) settings.set(key, { value, path: main });

  let fragments: Strategy | null = null;
  if (isSince(version, '0.38')) {
    for (const { path, strategy } of includesOf(settings.get('config_files')?.value)) {
      const mapped = inside(dir, path);
      if (mapped === join(dir, 'config.d')) fragments = strategy;
      for (const file of filesAt(mapped, overlay)) merge(settings, file, textOf(file, overlay) ?? '', strategy);
    }
  }
  const named = [...pathsOf(settings.get('config_files')?.value), ...rulesPaths({ settings })];
  const isHere = resolve(dir) === defaultFalcoDir || !named.some((path) => path.startsWith(`${defaultFalcoDir}${sep}`));
  return { dir, main, settings, fragments, isHere };
}

function merge(settings: Map<string, Setting>, path: string, text: string, strategy: Strategy): void {
  for (const [key, value] of entriesOf(text, path)) {
    if (key === 'config_files') {
      throw new FalcodropError(
        'falco_config',
        `${path}: Falco takes config_files in falco.yaml alone, and does not start with it here`,
        'take it out',
      );
    }
    const before = settings.get(key);
    if (strategy === 'add-only' && before !== undefined) continue;
    if (strategy === 'append' && Array.isArray(value)) {
      const former: unknown[] = Array.isArray(before?.value) ? before.value : [];
      settings.set(key, { value: [...former, ...(value as unknown[])], path });
    } else {
      settings.set(key, { value, path });
    }
  }
}

/** The keys of the outermost level, and what they hold. */
function entriesOf(text: string, path: string): [key: string, value: unknown][] {
  const refuse = (message: string): never => {
    throw new FalcodropError('falco_config', `${path} is not what Falco reads: ${message}`, 'mend it first');
  };
  // Duplicates are looked for here: yaml compares each key with each.
  const document = parseDocument(text, {
    prettyErrors: true,
    stringKeys: true,
    uniqueKeys: false,
    schema: 'core',
    resolveKnownTags: false,
    logLevel: 'error',
  });
  const [mistake] = document.errors;
  if (mistake !== undefined) refuse(mistake.message.split('\n')[0]?.replace(/:$/, '') ?? '');
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === null)) return [];
  if (!isMap(contents)) return refuse('it has no keys');
  const entries = new Map<string, unknown>();
  for (const { key, value } of contents.items) {
    const word = String(isScalar(key) ? key.value : key);
    if (entries.has(word))
      refuse(`${JSON.stringify(word.slice(0, 60))} stands there twice, and one of them does not count`);
    try {
      const node: unknown = isAlias(value) ? value.resolve(document) : value;
      if (isAlias(value) && node === undefined)
        refuse(`no anchor before the alias *${value.source.slice(0, 60)} has its name`);
      entries.set(word, isNode(node) ? (node as Node).toJS(document, { maxAliasCount: 100 }) : null);
    } catch (error) {
      refuse(error instanceof RangeError ? 'it is nested too deep' : (error as Error).message);
    }
  }
  return [...entries];
}

function includesOf(value: unknown): { readonly path: string; readonly strategy: Strategy }[] {
  const items: unknown[] = Array.isArray(value) ? value : value === undefined || value === null ? [] : [value];
  return items.flatMap((item) => {
    if (typeof item === 'string') return [{ path: item, strategy: 'append' as const }];
    if (typeof item !== 'object' || item === null) return [];
    const { path, strategy } = item as Readonly<Record<string, unknown>>;
    if (typeof path !== 'string') return [];
    return [{ path, strategy: strategy === 'override' || strategy === 'add-only' ? strategy : 'append' }];
  });
}

function pathsOf(value: unknown): string[] {
  return includesOf(value).map(({ path }) => path);
}

/** A path of the configuration, where `dir` stands for /etc/falco. */
export function inside(dir: string, path: string): string {
  const clean = normalize(path).replace(/(.)\/$/, '$1');
  if (clean === defaultFalcoDir) return dir;
  return clean.startsWith(`${defaultFalcoDir}/`) ? join(dir, clean.slice(defaultFalcoDir.length + 1)) : clean;
}

/** The regular files that a path means, as Falco lists them: itself, or of a directory all, by name; none where there is none. */
export function filesAt(path: string, overlay: Overlay = new Map()): string[] {
  const status = statSync(path, { throwIfNoEntry: false });
  const added = [...overlay].filter(([file, text]) => text !== null && join(file, '..') === path).map(([file]) => file);
  if (status === undefined) return added;
  if (status.isFile()) return [path];
  if (!status.isDirectory()) return [];
  const found = readdirSync(path)
    .map((name) => join(path, name))
    .filter((file) => overlay.get(file) !== null && statSync(file, { throwIfNoEntry: false })?.isFile() === true);
  if (found.length > mostFiles) {
    throw new FalcodropError(
      'falco_config',
      `${path} has more than ${mostFiles} files`,
      'move away what Falco needs not',
    );
  }
  return [...new Set([...found, ...added])].toSorted();
}

/** Null where there is none. */
function textOf(path: string, overlay: Overlay): string | null {
  const instead = overlay.get(path);
  return instead === undefined ? (readRegularFile(path, largestFile)?.toString() ?? null) : instead;
}

/** Null where there is none; symbolic links are followed, as Falco does. Throws `falco_config`, `not_permitted`. */
export function readRegularFile(path: string, largest: number, flags = 0): Buffer | null {
  let descriptor: number;
  try {
    // A pipe would wait for a writer.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY | flags);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (code === 'EACCES') throw new FalcodropError('not_permitted', `${path} may not be read`, undefined, error);
    if (code === 'ELOOP') {
      throw new FalcodropError(
        'falco_unsafe_path',
        `${path} is a symbolic link, which is not followed`,
        'put the file itself there',
        error,
      );
    }
    throw new FalcodropError('falco_config', `${path} can not be read: ${message}`, undefined, error);
  }
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new FalcodropError('falco_config', `${path} is no regular file`, 'move it away');
    const bytes = Buffer.allocUnsafe(largest + 1);
    let length = 0;
    for (;;) {
      const got = readSync(descriptor, bytes, length, bytes.length - length, null);
      length += got;
      if (got === 0) break;
      if (length > largest) {
        throw new FalcodropError('falco_config', `${path} is larger than ${largest >> 10} KiB`, 'look what it is');
      }
    }
    return Buffer.from(bytes.subarray(0, length));
  } finally {
    closeSync(descriptor);
  }
}

/** As yaml-cpp takes a word for true. */
export function isOn(value: unknown): boolean {
  return value === true || (typeof value === 'string' && /^(y|yes|true|on)$/i.test(value));
}

function partOf(settings: FalcoConfiguration['settings'], key: string): Readonly<Record<string, unknown>> | null {
  const value = settings.get(key)?.value;
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : null;
}

/** Where alerts are posted to, and the file that says so; null: nowhere. */
export function httpOutputOf({ settings }: FalcoConfiguration): { readonly url: string; readonly path: string } | null {
  const output = partOf(settings, 'http_output');
  if (output === null) return null;
  const { enabled, url } = output;
  // ${NAME} is somebody's environment: not known to be off.
  const mayBe = isOn(enabled) || (typeof enabled === 'string' && enabled.includes('$'));
  return mayBe ? { url: String(url ?? ''), path: settings.get('http_output')?.path ?? '' } : null;
}

/** The names of the outputs that are on, `http_output` left out. */
export function otherOutputsOf({ settings }: FalcoConfiguration): string[] {
  const names = ['stdout_output', 'syslog_output', 'file_output', 'program_output'];
  return names.filter((name) => isOn(partOf(settings, name)?.enabled));
}

/** As they stand there. */
export function rulesPaths({ settings }: Pick<FalcoConfiguration, 'settings'>): string[] {
  return pathsOf(settings.get(rulesKey({ settings }))?.value);
}

/** `rules_file` until 0.38; Falco takes one of the two. */
export function rulesKey({ settings }: Pick<FalcoConfiguration, 'settings'>): 'rules_files' | 'rules_file' {
  return settings.has('rules_file') && !settings.has('rules_files') ? 'rules_file' : 'rules_files';
}

/** Falco's own web server's answer to whether it is well; null: it has none. */
export function healthUrlOf({ settings }: FalcoConfiguration): string | null {
  const server = partOf(settings, 'webserver');
  if (server === null || !isOn(server.enabled)) return null;
  const {
    listen_address: address = '0.0.0.0',
    listen_port: port = 8765,
    k8s_healthz_endpoint: path = '/healthz',
  } = server;
  const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : String(address);
  const url = `${isOn(server.ssl_enabled) ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${String(port)}${String(path)}`;
  return URL.canParse(url) ? url : null;
}

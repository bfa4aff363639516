/**
 * Reads the configuration: the file, then the environment over it. Imports yaml and zod, so it is imported by the verbs that
 * need it, when they do.
 */
import { readFileSync, statSync } from 'node:fs';
import { isMap, isScalar, LineCounter, type Node, type Pair, parseDocument } from 'yaml';
import type { z } from 'zod';
import { quote } from '../address/address.ts';
import { FalcodropError } from '../errors.ts';
import type { Config } from './config.ts';
import { nearest } from './nearest.ts';
import { defaultConfigPath } from './path.ts';
import { expectedAt, keysAt, type Scalar, scalars, schema, toConfig } from './schema.ts';

/** Bytes; a configuration is a page. */
const largestFile = 1 << 20;

/** Not settings: they say where things lie. */
const reserved: ReadonlySet<string> = new Set(['CONFIG', 'PIN_DIR', 'STATE_DIR', 'NODE']);

/**
 * `path` undefined: the default file, and the defaults where that is absent; a file that was named must be there. Settings
 * of the environment (`FALCODROP_HTTP__PORT`) beat the file's.
 * Throws `file_unreadable`, and `config_invalid` with file, line and column, or the variable's name.
 */
export function loadConfig(path: string | undefined, environment: NodeJS.ProcessEnv = process.env): Config {
  const text = readConfig(path);
  return parseConfig(text ?? '', path ?? defaultConfigPath, environment);
}

/** From text; `name` is for messages. */
export function parseConfig(text: string, name: string, environment: NodeJS.ProcessEnv = {}): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const [problem] = [...document.errors, ...document.warnings];
  if (problem !== undefined) throw invalid(`${at(problem.pos[0])}: ${problem.message}`);

  let settings: unknown;
  try {
    settings = document.toJS() ?? {};
  } catch (error) {
    // anchors without end: yaml's own limit on aliases
    throw invalid(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isSettings(settings)) throw invalid(`${name}: settings are keys and values, and this is neither`);

  // a section with all its settings commented out
  settings = Object.fromEntries(
    Object.entries(settings).filter(([key, value]) => value !== null || keysAt([key]) === null),
  );

  const variables = readVariables(environment);
  for (const { path, value } of variables) settings = withSetting(settings, path, value);

  const result = schema.safeParse(settings);
  if (result.success) return toConfig(result.data);
  const [issue] = result.error.issues;
  if (issue === undefined) throw invalid(`${name} is not valid`);
  const place = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path;
  const variable = variables.find(({ path }) => path.join('.') === place.join('.'));
  const where = variable?.name ?? placeOf(document.contents, place, at) ?? name;
  const { message, hint } = explain(issue, place);
  throw invalid(`${where}: ${message}`, hint);
}

function readConfig(path: string | undefined): string | null {
  const file = path ?? defaultConfigPath;
  try {
    if (statSync(file).size > largestFile) throw invalid(`${file} is larger than a configuration may be (1 MiB)`);
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof FalcodropError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && path === undefined) return null;
    const sentence = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'it may not be read' : message;
    const hint =
      code === 'ENOENT' ? 'name one that is there (--config, FALCODROP_CONFIG), or none for the defaults' : undefined;
    throw new FalcodropError('file_unreadable', `${file}: ${sentence}`, hint, error);
  }
}

type Settings = Readonly<Record<string, unknown>>;

function isSettings(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function withSetting(settings: unknown, path: readonly string[], value: unknown): Settings {
  const [key = '', ...rest] = path;
  const level = isSettings(settings) ? settings : {};
  return { ...level, [key]: rest.length === 0 ? value : withSetting(level[key], rest, value) };
}

interface Variable {
  readonly name: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

const prefix = 'FALCODROP_';

function readVariables(environment: NodeJS.ProcessEnv): Variable[] {
  const known = new Map(scalars().map((scalar) => [nameOf(scalar), scalar]));
  const variables: Variable[] = [];
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith(prefix) || text === undefined || reserved.has(name.slice(prefix.length))) continue;
    const scalar = known.get(name);
    if (scalar !== undefined) variables.push({ name, path: scalar.path, value: readValue(scalar.kind, text) });
    // A name without levels that is near no setting is somebody else's (of a unit, of a wrapper script).
    else if (name.includes('__') || nearest(name, [...known.keys()]) !== undefined) throw unknownVariable(name, known);
  }
  return variables;
}

function nameOf({ path }: Scalar): string {
  return `${prefix}${path.join('__').toUpperCase()}`;
}

function unknownVariable(name: string, known: ReadonlyMap<string, Scalar>): FalcodropError {
  const near = nearest(name, [...known.keys()]);
  return invalid(
    `${quote(name)} in the environment names no setting`,
    near === undefined ? 'lists are set in the file' : `did you mean ${near}?`,
  );
}

function readValue(kind: Scalar['kind'], text: string): unknown {
  if (kind === 'number') return /^\d{1,15}$/.test(text) ? Number(text) : text;
  if (kind === 'truth') return text === 'true' ? true : text === 'false' ? false : text;
  return text;
}

function explain(
  issue: z.core.$ZodIssue,
  place: readonly PropertyKey[],
): { readonly message: string; readonly hint?: string } {
  const setting = quote(place.map(String).join('.')).slice(1, -1);
  if (issue.code !== 'unrecognized_keys') {
    const expected = expectedAt(place);
    // A union's own words are none.
    const said = issue.code === 'invalid_union' ? 'it is not what may stand here' : issue.message;
    return { message: `${setting}: ${said}`, ...(expected === null ? {} : { hint: `expected is ${expected}` }) };
  }
  const keys = keysAt(issue.path) ?? [];
  const near = nearest(String(place.at(-1) ?? ''), keys);
  return {
    message: `there is no setting ${setting}`,
    hint: near === undefined ? `the settings here are ${keys.join(', ')}` : `did you mean ${near}?`,
  };
}

/** Line and column of a setting: its key when it is one too many, else its value, else the level it is missing in. */
function placeOf(contents: unknown, place: readonly PropertyKey[], at: (offset: number) => string): string | null {
  let node = contents as Node | null;
  let offset: number | null = null;
  for (const step of place) {
    let next: Node | null = null;
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step)) as
        | Pair<Node, Node | null>
        | undefined;
      next = pair?.value ?? null;
      offset = (next?.range ?? pair?.key.range)?.[0] ?? offset;
      if (place.at(-1) === step && pair !== undefined) offset = pair.key.range?.[0] ?? offset;
    } else if (typeof node === 'object' && node !== null && 'items' in node) {
      next = ((node as { items: readonly unknown[] }).items[Number(step)] as Node | undefined) ?? null;
      offset = next?.range?.[0] ?? offset;
    }
    if (next === null) break;
    node = next;
  }
  return offset === null ? null : at(offset);
}

function invalid(message: string, hint?: string): FalcodropError {
  return new FalcodropError('config_invalid', message, hint);
}

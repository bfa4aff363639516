/**
 * What a hand verb needs of the configuration: the guard's settings and the host's names.
 *
 * Reading YAML costs more than all else a hand verb does, so root's verbs leave the checked settings in
 * `STATE_DIR/root/guard.json`, with the SHA-256 of the files they came from. The state directory is the service's; the folder
 * `root` in it is root's alone, and neither folder nor file is believed unless root owns it and nobody else may write it.
 */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { formatPrefix, parsePrefix } from '../address/prefix.ts';
import { prefixSet } from '../address/set.ts';
import type { Config } from '../config/config.ts';
import { configPath, defaultConfigPath, fragmentsOf, reservedVariables, variablePrefix } from '../config/path.ts';
import { readText } from '../config/text.ts';
import { FalcodropError } from '../errors.ts';
import type { GuardSettings } from '../judge/guard/guard.ts';
import { type Call, isRoot, stateDirOf, text } from './call.ts';
import { readTrusted, writeTrusted } from './trusted.ts';

export interface HandSettings {
  readonly guard: GuardSettings;
  readonly hostAliases: readonly string[];
}

/** `guard.json`. */
interface Stored {
  readonly version: 1;
  readonly config_path: string;
  /** Of the file and of those in conf.d beside it; null: there were none. */
  readonly config_sha256: string | null;
  readonly allow_private: boolean;
  readonly protected: readonly string[];
  readonly widest_v4: number;
  readonly widest_v6: number;
  readonly host_aliases: readonly string[];
}

const fileName = 'guard.json';

/** The file that holds: named, or the default. */
export function namedConfig(call: Call): string | undefined {
  return configPath(text(call, 'config'), call.environment);
}

/** The whole configuration, with what reading it costs. */
export async function readConfig(call: Call): Promise<Config> {
  const { loadConfig } = await import('../config/load.ts');
  return loadConfig(namedConfig(call), call.environment);
}

/** True when settings may come from the environment: they are nobody else's, and not stored. */
export function hasOverrides(environment: NodeJS.ProcessEnv): boolean {
  return Object.keys(environment).some((name) => name.startsWith(variablePrefix) && !reservedVariables.has(name));
}

/** Throws `config_invalid`, `file_unreadable`. */
export async function readHandSettings(call: Call): Promise<HandSettings> {
  const stored = hasOverrides(call.environment) ? null : readStored(call);
  if (stored !== null) return stored;
  const config = await readConfig(call);
  storeSettings(call, config);
  return { guard: config.rules.guard, hostAliases: config.hostAliases };
}

/** Root's part; whoever else calls it changes nothing. Failing is no failure of the verb: the next one reads the YAML. */
export function storeSettings(call: Call, config: Config): void {
  if (!isRoot() || hasOverrides(call.environment)) return;
  const path = pathOf(call);
  const digest = digestOf(path, namedConfig(call) !== undefined);
  if (digest === undefined) return;
  const { guard } = config.rules;
  const stored: Stored = {
    version: 1,
    config_path: path,
    config_sha256: digest,
    allow_private: guard.allowPrivate,
    protected: guard.protected.prefixes.map(formatPrefix),
    widest_v4: guard.widest[4],
    widest_v6: guard.widest[6],
    host_aliases: config.hostAliases,
  };
  try {
    writeTrusted(stateDirOf(call.environment), fileName, JSON.stringify(stored));
  } catch {
    // a read-only or foreign state directory
  }
}

/** Null when there are none to believe, or the YAML has changed since. */
function readStored(call: Call): HandSettings | null {
  const bytes = readTrusted(stateDirOf(call.environment), fileName);
  if (bytes === null) return null;
  try {
    const stored = JSON.parse(bytes.toString()) as Stored;
    const path = pathOf(call);
    if (stored.version !== 1 || stored.config_path !== path) return null;
    const digest = digestOf(path, namedConfig(call) !== undefined);
    // Who may not read the file can not compare; root has checked it.
    if (digest !== undefined && digest !== stored.config_sha256) return null;
    return {
      guard: {
        allowPrivate: stored.allow_private,
        protected: prefixSet(stored.protected.map(parsePrefix)),
        widest: { 4: stored.widest_v4, 6: stored.widest_v6 },
      },
      hostAliases: stored.host_aliases,
    };
  } catch {
    return null; // of another version, or half a file
  }
}

function pathOf(call: Call): string {
  return resolve(namedConfig(call) ?? defaultConfigPath);
}

/** Of all files with their names; null = there are none, which only the default may be; undefined = it can not be told. */
function digestOf(path: string, named: boolean): string | null | undefined {
  const hash = createHash('sha256');
  let found = 0;
  const add = (file: string, isNeeded: boolean): void => {
    let bytes: Buffer;
    try {
      bytes = Buffer.from(readText(file).text);
    } catch (error) {
      if (codeOf(error) === 'ENOENT' && !isNeeded) return;
      throw error;
    }
    hash.update(`${Buffer.byteLength(file)} ${file} ${bytes.length} `).update(bytes);
    found++;
  };
  try {
    add(path, named);
    for (const file of fragmentsOf(path).files) add(file, true);
  } catch (error) {
    if (codeOf(error) === 'EACCES') return undefined;
    throw error;
  }
  return found === 0 ? null : hash.digest('hex');
}

/** Of the system call that failed beneath. */
function codeOf(error: unknown): string | undefined {
  const cause = error instanceof FalcodropError ? error.cause : error;
  return (cause as NodeJS.ErrnoException | undefined)?.code;
}

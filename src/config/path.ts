/** Where the configuration lies. Without yaml and zod: who only compares files pays for neither. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { unreadable } from './text.ts';

export const defaultConfigPath = '/etc/falcodrop/falcodrop.yaml';

/** The beginning of the variables that are settings. */
export const variablePrefix = 'FALCODROP_';

/** Variables that say where things lie, or how errors are shown: no settings. */
export const reservedVariables: ReadonlySet<string> = new Set(
  ['CONFIG', 'PIN_DIR', 'STATE_DIR', 'NODE', 'DEBUG'].map((name) => `${variablePrefix}${name}`),
);

/** The file that was named (`--config`, else `FALCODROP_CONFIG`); undefined = none was, and the default may be absent. */
export function configPath(flag: string | undefined, environment: NodeJS.ProcessEnv): string | undefined {
  const named = flag ?? environment.FALCODROP_CONFIG;
  return named === undefined || named === '' ? undefined : named;
}

/** `conf.d` beside a configuration file. */
export function fragmentFolder(file: string): string {
  return join(dirname(file), 'conf.d');
}

/** More than these are a mistake, not a configuration. */
const mostFragments = 256;

export interface Fragments {
  /** Paths in the order in which they are laid over the file: by name, byte by byte. */
  readonly files: readonly string[];
  /** Names that look as if somebody meant them to be read. */
  readonly passedOver: readonly string[];
}

/** Files `conf.d/*.yaml` beside `file`; hidden ones (editors' swap files) are none. Throws `file_unreadable`. */
export function fragmentsOf(file: string): Fragments {
  const folder = fragmentFolder(file);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { files: [], passedOver: [] };
    throw unreadable(folder, error);
  }
  const seen = names
    .filter((name) => !name.startsWith('.'))
    .toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const files = seen.filter((name) => name.endsWith('.yaml'));
  if (files.length > mostFragments) throw unreadable(folder, new Error(`it holds more than ${mostFragments} files`));
  return {
    files: files.map((name) => join(folder, name)),
    passedOver: seen.filter((name) => /\.(yml|yaml\.\w+|json)$/i.test(name)).map((name) => join(folder, name)),
  };
}

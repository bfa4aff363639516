/**
 * Reads the configuration: the file, `conf.d` beside it, then the environment, then flags over it. Imports yaml and zod, so it is
 * imported by the verbs that need it, when they do.
 */
import { statSync } from 'node:fs';
import { FalcodropError } from '../errors.ts';
import type { Config } from './config.ts';
import { readDocument } from './document.ts';
import { environmentLayer } from './environment.ts';
import { type FlagSetting, flagLayer, type Layer } from './layer.ts';
import { defaultConfigPath, fragmentFolder, fragmentsOf } from './path.ts';
import { aboutFile, errorOf, type Problem } from './problem.ts';
import { type Held, readLayers } from './reading.ts';
import { schema, toConfig } from './schema.ts';
import { shapeOf } from './shape.ts';
import { readText } from './text.ts';
import { distrust } from './trust.ts';

export interface Examined {
  /** Null when there is a problem. */
  readonly config: Config | null;
  readonly problems: readonly Problem[];
  /** Those that were read, in order. */
  readonly files: readonly string[];
  /** What looks as if somebody meant it to be read: `conf.d/x.yml`. */
  readonly passedOver: readonly string[];
  /** Every setting as it holds; empty when there is a problem. */
  readonly held: readonly Held[];
}

/**
 * `path` undefined: the default file, and the defaults where that is absent; a file that was named must be there. Of several
 * problems the first is thrown, with the number of the others.
 * Throws `file_unreadable`, and `config_invalid` with file, line and column, or the variable's name.
 */
export function loadConfig(
  path: string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
  flags: readonly FlagSetting[] = [],
): Config {
  return configOf(examineConfig(path, environment, flags));
}

/** From text; `name` is for messages. */
export function parseConfig(text: string, name: string, environment: NodeJS.ProcessEnv = {}): Config {
  return configOf(examine([{ file: name, layer: readDocument(text, name) }], [], environment, []));
}

function configOf({ config, problems: [first, ...others] }: Examined): Config {
  if (first !== undefined) throw errorOf(first, others.length);
  if (config === null) throw new Error('a configuration without a problem is there');
  return config;
}

interface FileLayer {
  readonly file: string;
  readonly layer: Layer;
}

/** Everything that is wrong, thrown never. */
export function examineConfig(
  path: string | undefined,
  environment: NodeJS.ProcessEnv,
  flags: readonly FlagSetting[] = [],
): Examined {
  const file = path ?? defaultConfigPath;
  const main = readFile(file, path !== undefined);
  let passedOver: readonly string[] = [];
  let fragments: FileLayer[] = [];
  try {
    const found = fragmentsOf(file);
    passedOver = found.passedOver;
    const folder = fragmentFolder(file);
    // Also for links in it: they lead to what was meant for another use.
    const why = found.files.length === 0 ? null : distrust(folder, statSync(folder));
    fragments =
      why === null
        ? found.files.flatMap((fragment) => readFile(fragment, false))
        : [{ file: folder, layer: broken(why) }];
  } catch (error) {
    fragments = [refused(fragmentFolder(file), error)];
  }
  return examine([...main, ...fragments], passedOver, environment, flags);
}

function examine(
  files: readonly FileLayer[],
  passedOver: readonly string[],
  environment: NodeJS.ProcessEnv,
  flags: readonly FlagSetting[],
): Examined {
  const layers = files.map(({ layer }) => layer);
  layers.push(environmentLayer(shapeOf(schema), environment));
  if (flags.length > 0) layers.push(flagLayer(flags));
  const { problems, output, held } = readLayers(schema, layers);
  return {
    config: output === null ? null : toConfig(output),
    problems,
    files: files.map(({ file }) => file),
    passedOver,
    held,
  };
}

/** None where nobody named the file and it is not there. */
function readFile(file: string, named: boolean): FileLayer[] {
  try {
    const { text, stats } = readText(file);
    const why = named ? null : distrust(file, stats);
    return [{ file, layer: why === null ? readDocument(text, file) : broken(why) }];
  } catch (error) {
    const isAbsent = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
    return isAbsent && !named ? [] : [refused(file, error)];
  }
}

function refused(file: string, error: unknown): FileLayer {
  if (!(error instanceof FalcodropError)) throw error;
  const message = error.message.startsWith(`${file}: `) ? error.message.slice(file.length + 2) : error.message;
  const code = error.code === 'file_unreadable' ? error.code : 'config_invalid';
  return { file, layer: broken({ ...aboutFile(file, message, error.hint ?? null), code }) };
}

function broken(problem: Problem): Layer {
  return { settings: {}, problems: [problem], placeOf: () => problem.place };
}

/** Settings of one origin: a file, the environment, flags. Later layers are laid over earlier ones. */
import type { Place, Problem } from './problem.ts';
import { isSection, type Shape, shapeAt } from './shape.ts';

export type Settings = Readonly<Record<string, unknown>>;

export interface Layer {
  readonly settings: Settings;
  /** What was wrong before any setting was looked at. */
  readonly problems: readonly Problem[];
  /** The setting's place: its key, or its place in a list, or the nearest level above it that is there. */
  placeOf(path: readonly PropertyKey[]): Place;
}

/** A setting given by an option of the command; beats all others. */
export interface FlagSetting {
  /** As typed: `--stdin`. */
  readonly flag: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

export function flagLayer(flags: readonly FlagSetting[]): Layer {
  let settings: Settings = {};
  for (const { path, value } of flags) settings = withSetting(settings, path, value);
  return {
    settings,
    problems: [],
    placeOf: (path) => ({ kind: 'flag', flag: flags.find((flag) => meets(flag.path, path))?.flag ?? 'an option' }),
  };
}

/** Whether one path leads to or through the other. */
export function meets(a: readonly PropertyKey[], b: readonly PropertyKey[]): boolean {
  return a.slice(0, b.length).every((step, index) => step === b[index]);
}

export function isSettings(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function withSetting(settings: unknown, path: readonly string[], value: unknown): Settings {
  const [key = '', ...rest] = path;
  const level = isSettings(settings) ? settings : {};
  return { ...level, [key]: rest.length === 0 ? value : withSetting(level[key], rest, value) };
}

/** The value at a path; undefined where there is none. */
export function settingAt(settings: unknown, path: readonly PropertyKey[]): unknown {
  let at = settings;
  for (const step of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Readonly<Record<PropertyKey, unknown>>)[step];
  }
  return at;
}

/** Later wins, key by key; lists and secrets are replaced whole. For settings that the schema has taken. */
export function merge(shape: Shape, layers: readonly Settings[]): Settings {
  let merged: Settings = {};
  for (const settings of layers) merged = over(shape, merged, settings, []);
  return merged;
}

function over(shape: Shape, below: Settings, above: Settings, path: readonly string[]): Settings {
  const result: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const at = [...path, key];
    const former = result[key];
    result[key] =
      isSection(shapeAt(shape, at)) && isSettings(value)
        ? over(shape, isSettings(former) ? former : {}, value, at)
        : value;
  }
  return result;
}

/** A section with all its settings commented out is YAML's null: nothing is set in it. */
export function withoutEmptySections(shape: Shape, settings: Settings, path: readonly string[] = []): Settings {
  const kept = Object.entries(settings).flatMap(([key, value]) => {
    const at = [...path, key];
    if (!isSection(shapeAt(shape, at))) return [[key, value] as const];
    if (value === null) return [];
    return [[key, isSettings(value) ? withoutEmptySections(shape, value, at) : value] as const];
  });
  return Object.fromEntries(kept);
}

/** Layers of settings, checked each by itself, and merged: every problem at once, and the origin of each value. */
import type * as z from 'zod';
import { explain } from './explain.ts';
import { type Layer, merge, type Settings, settingAt, withoutEmptySections, withSetting } from './layer.ts';
import type { Place, Problem } from './problem.ts';
import { leaves, type Shape, shapeOf } from './shape.ts';

/** One setting as it holds. */
export interface Held {
  readonly path: readonly string[];
  readonly shape: Shape;
  /** As it would be written in a file; undefined: not set, and no default. */
  readonly value: unknown;
  readonly place: Place;
}

export interface Reading<T> {
  /** In the order of the layers, and of the places in them. None: `output` and `held` are there. */
  readonly problems: readonly Problem[];
  readonly output: T | null;
  readonly held: readonly Held[];
}

/**
 * Later layers win, key by key; lists are replaced whole. A layer is checked also where a later one overrules it: its
 * mistake would show when that goes.
 */
export function readLayers<S extends z.ZodType>(schema: S, layers: readonly Layer[]): Reading<z.output<S>> {
  const shape = shapeOf(schema);
  const filled = layers.map((layer) => ({ ...layer, settings: withoutEmptySections(shape, layer.settings) }));
  const problems = filled.flatMap((layer) => {
    const result = schema.safeParse(layer.settings);
    const found = result.error?.issues.flatMap((issue) => explain(issue, shape, layer)) ?? [];
    return [...layer.problems, ...found.toSorted(byPlace)];
  });
  if (problems.length > 0) return { problems, output: null, held: [] };

  const held = leaves(shape).map(({ path, shape: about }): Held => {
    const layer = filled.findLast(({ settings }) => settingAt(settings, path) !== undefined);
    if (layer === undefined) return { path, shape: about, value: about.default, place: { kind: 'default' } };
    return { path, shape: about, value: settingAt(layer.settings, path), place: layer.placeOf(path) };
  });
  const merged = merge(
    shape,
    filled.map(({ settings }) => settings),
  );
  const result = schema.safeParse(merged);
  if (result.success) return { problems: [], output: result.data, held };
  // What is right in each layer and not together: told where the setting comes from that zod names.
  const together: Layer = {
    settings: merged,
    problems: [],
    placeOf: (path) =>
      filled.findLast(({ settings }) => settingAt(settings, path) !== undefined)?.placeOf(path) ?? { kind: 'default' },
  };
  return { problems: result.error.issues.flatMap((issue) => explain(issue, shape, together)), output: null, held: [] };
}

/** Within one layer; the environment's stay sorted by the schema. */
function byPlace({ place: a }: Problem, { place: b }: Problem): number {
  if (a.kind !== 'file' || b.kind !== 'file') return 0;
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}

/** The merged settings as one would write them, defaults included. */
export function writtenSettings(held: readonly Held[]): Settings {
  return held.reduce<Settings>(
    (all, { path, value }) => (value === undefined ? all : withSetting(all, path, value)),
    {},
  );
}

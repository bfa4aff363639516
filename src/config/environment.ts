/** Settings of the environment: `FALCODROP_` and the path with levels joined by `__`, as in FALCODROP_HTTP__PORT. */
import { quote } from '../address/address.ts';
import { type Layer, meets, type Settings, withSetting } from './layer.ts';
import { nearest } from './nearest.ts';
import { reservedVariables, variablePrefix } from './path.ts';
import type { Problem } from './problem.ts';
import { isSection, type Scalar, type Shape, scalars, shapeAt } from './shape.ts';

export function variableOf(path: readonly PropertyKey[]): string {
  return `${variablePrefix}${path.map(String).join('__').toUpperCase()}`;
}

/** Every variable that begins with `FALCODROP_` names a setting or is reserved, or it is a problem. */
export function environmentLayer(shape: Shape, environment: NodeJS.ProcessEnv): Layer {
  const known = new Map(scalars(shape).map((scalar) => [variableOf(scalar.path), scalar]));
  const given: Scalar[] = [];
  const problems: Problem[] = [];
  let settings: Settings = {};
  for (const [name, text] of Object.entries(environment).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!name.startsWith(variablePrefix) || text === undefined || reservedVariables.has(name)) continue;
    const scalar = known.get(name);
    if (scalar === undefined) {
      problems.push(unknownVariable(shape, name, [...known.keys()]));
    } else {
      given.push(scalar);
      settings = withSetting(settings, scalar.path, readValue(scalar.kind, text));
    }
  }
  return {
    settings,
    problems,
    placeOf: (path) => ({
      kind: 'environment',
      variable: variableOf(given.find((scalar) => meets(scalar.path, path))?.path ?? path),
    }),
  };
}

function unknownVariable(shape: Shape, name: string, known: readonly string[]): Problem {
  const path = name.slice(variablePrefix.length).toLowerCase().split('__');
  const named = name === variableOf(path) ? shapeAt(shape, path) : null;
  const setting = named === null ? null : path.join('.');
  let message = `${quote(name)} names no setting`;
  let hint: string;
  // Without the beginning, which is no sign of a likeness.
  const bare = (variable: string): string => variable.slice(variablePrefix.length);
  const near = nearest(bare(name), [...known, ...reservedVariables].map(bare));
  if (named !== null && named['x-secret'] === true) {
    message = 'a secret may not stand in the environment';
    hint = `put it into a file and set ${name}__FILE to its path, or ${name}__CREDENTIAL to its name among systemd's`;
  } else if (named !== null && isSection(named)) {
    const inner = known.filter((candidate) => candidate.startsWith(`${name}__`));
    hint = `${setting} has settings of its own: ${inner.join(', ')}`;
  } else if (named !== null) {
    message = `${setting} is a list, which the environment can not set`;
    hint = 'set it in the file, or in one of conf.d';
  } else {
    hint =
      near === undefined
        ? `settings are ${variablePrefix} and their path joined by "__", as in ${known.at(-1) ?? ''}; unset what is none`
        : `did you mean ${variablePrefix}${near}?`;
  }
  return { code: 'config_invalid', place: { kind: 'environment', variable: shown(name) }, setting, message, hint };
}

/** Names are as hostile as values. */
function shown(name: string): string {
  return /^\w{1,128}$/.test(name) ? name : quote(name);
}

/** Text that is no number or truth stays text: the schema says what it expected. */
function readValue(kind: Scalar['kind'], text: string): unknown {
  if (kind === 'number') return /^\d{1,15}$/.test(text) ? Number(text) : text;
  if (kind === 'truth') return text === 'true' ? true : text === 'false' ? false : text;
  return text;
}

/** Settings as YAML: what holds and where it comes from, and the first configuration. */
import { formatPlace } from './problem.ts';
import type { Held } from './reading.ts';
import { isSection, type Shape } from './shape.ts';

/** Characters before the comments. */
const margin = 40;

/** Every setting with its origin as a comment; read again, it is the same configuration. */
export function printHeld(held: readonly Held[]): string[] {
  const lines: string[] = [];
  let open: readonly string[] = [];
  for (const { path, value, place } of held) {
    if (value === undefined) continue;
    const section = path.slice(0, -1);
    for (const [level, key] of section.entries()) {
      if (open[level] !== key) lines.push(`${indent(level)}${key}:`);
    }
    open = section;
    const key = `${indent(section.length)}${path.at(-1) ?? ''}:`;
    const origin = `# ${harmless(place.kind === 'file' ? `${place.file}:${place.line}` : formatPlace(place))}`;
    if (Array.isArray(value) && value.length > 0) {
      lines.push(`${key.padEnd(margin)} ${origin}`, ...value.map((item) => `${indent(path.length)}- ${inline(item)}`));
    } else {
      lines.push(`${`${key} ${inline(value)}`.padEnd(margin)} ${origin}`);
    }
  }
  return lines;
}

/** A section of which nothing is set stays out: YAML would read `null`. */
export function printFirst(shape: Shape, given: Readonly<Record<string, unknown>>): string[] {
  const lines: string[] = [];
  for (const [key, about] of Object.entries(shape.properties ?? {})) {
    lines.push('', ...commented(about));
    if (Object.hasOwn(given, key)) lines.push(`${key}: ${inline(given[key])}`);
    else lines.push(...settingLines(key, about, 0).map((line) => `#${line}`));
  }
  return lines;
}

/** What has no default stays a comment, with its example: there is no value that says "not set". */
function settingLines(key: string, about: Shape, level: number): string[] {
  if (!hasDefault(about)) {
    const lines = isSection(about)
      ? sectionLines(key, about, level)
      : [`${indent(level)}${key}: ${inline(about['x-example'])}`];
    return lines.map((line) => (line.trimStart().startsWith('#') ? line : line.replace(/^ */, '$&# ')));
  }
  if (!isSection(about)) {
    const example = Array.isArray(about.default) ? `  # for example ${inline(about['x-example'])}` : '';
    return [`${indent(level)}${key}: ${inline(about.default ?? null)}${example}`];
  }
  return sectionLines(key, about, level);
}

function sectionLines(key: string, about: Shape, level: number): string[] {
  const inner = Object.entries(about.properties ?? {}).flatMap(([name, shape]) => [
    ...commented(shape).map((line) => `${indent(level + 1)}${line}`),
    ...settingLines(name, shape, level + 1),
  ]);
  return [`${indent(level)}${key}:`, ...inner];
}

function hasDefault(about: Shape): boolean {
  if (!isSection(about)) return about.default !== undefined;
  return Object.values(about.properties ?? {}).some(hasDefault);
}

function commented({ description }: Shape): string[] {
  return description === undefined ? [] : [`# ${description}`];
}

function indent(level: number): string {
  return '  '.repeat(level);
}

/** On one line, as YAML of any version reads it back. */
export function inline(value: unknown): string {
  if (typeof value === 'string') return isPlain(value) ? value : quoted(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  const members = Object.entries(value).map(([key, inner]) => `${inline(key)}: ${inline(inner)}`);
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`;
}

/** Words and paths, IPv4 addresses and prefixes, durations. Not what YAML 1.1 took for a truth. */
function isPlain(text: string): boolean {
  if (/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)) return false;
  return /^[A-Za-z/][\w./-]*$|^\d+\.\d+\.\d+\.\d+(\/\d+)?$|^\d+[smhdw]$/.test(text);
}

function quoted(text: string): string {
  return JSON.stringify(text).replace(/[^\x20-\x7e]/gu, (character) => {
    const point = character.codePointAt(0) ?? 0;
    const digits = point.toString(16);
    return point > 0xffff ? `\\U${digits.padStart(8, '0')}` : `\\u${digits.padStart(4, '0')}`;
  });
}

/** Names of files hold any character. */
function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, '?');
}

/** What is to lie beside a Falco, so that its alerts reach falcodrop: decided by its version and by how it is configured. */
import { isIP } from 'node:net';
import { join } from 'node:path';
import { FalcodropError } from '../errors.ts';
import {
  defaultFalcoDir,
  type FalcoConfiguration,
  httpOutputOf,
  inside,
  isOn,
  type Overlay,
  otherOutputsOf,
  readFalcoConfiguration,
  rulesKey,
  rulesPaths,
} from './configuration.ts';
import { configFile, rulesFile } from './files.generated.ts';
import { type FalcoVersion, isSince } from './version.ts';

export const configPath = 'config.d/falcodrop.yaml';
export const rulesPath = 'rules.d/falcodrop_rules.yaml';

export interface PlannedFile {
  /** Below the Falco directory. */
  readonly path: string;
  readonly text: string;
  /** 0600 where a secret stands in it. */
  readonly mode: 0o600 | 0o644;
  readonly why: string;
}

export interface SetupNote {
  readonly code:
    | 'chain'
    | 'by_hand'
    | 'json_for_all'
    | 'overridden'
    | 'append_output_left'
    | 'rules_unread'
    | 'no_configuration';
  readonly message: string;
}

export interface SetupPlan {
  readonly files: readonly PlannedFile[];
  /** Keys for falco.yaml, which is never written to; null: nothing is needed there. */
  readonly byHand: string | null;
  /** `laid`: alerts are posted to us from now on; `ours`: they were; `elsewhere`: to somebody else, who is left alone. */
  readonly http: 'laid' | 'ours' | 'elsewhere' | 'by_hand';
  readonly notes: readonly SetupNote[];
}

export const defaultUrl = 'http://127.0.0.1:2804/falco';

/** Throws `usage`. */
export function requireUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  const isFit = parsed !== null && /^https?:$/.test(parsed.protocol) && /^[\x21-\x7e]+$/.test(url);
  // Falco puts its environment in for ${NAME}.
  if (isFit && !/["\\$]/.test(url)) return url;
  throw new FalcodropError('usage', 'that URL is none that Falco could post to', `it is like ${defaultUrl}`);
}

interface Wish {
  readonly dir: string;
  readonly version: FalcoVersion;
  readonly url: string;
}

/** Reads what is there, and the file of ours as if it were not. */
export function planSetup({ dir, version, url }: Wish): SetupPlan {
  const own = join(dir, configPath);
  const read = (overlay: Overlay): FalcoConfiguration => readFalcoConfiguration(dir, version, overlay);
  const before = read(new Map([[own, null]]));
  const notes: SetupNote[] = [];
  const note = (code: SetupNote['code'], message: string): void => void notes.push({ code, message });

  const output = httpOutputOf(before);
  const isOurs = output !== null && isSamePlace(output.url, url);
  const rules: PlannedFile = {
    path: rulesPath,
    text: rulesFile,
    mode: 0o644,
    why: "inbound rules: Falco's stable rules have none",
  };
  const isRead = before.fragments !== null && isSince(version, '0.38');
  const rulesList = rulesListWanted(before, dir);
  const canAppend = isRead && before.fragments === 'append';
  const hasOwnAppends = Array.isArray(before.settings.get('append_output')?.value);
  const withAppends = isSince(version, '0.39') && !(isRead && !canAppend && hasOwnAppends);

  const text = compose(version, {
    url,
    http: output === null,
    appends: withAppends,
    rules: canAppend || !isRead ? rulesList : null,
    isFragment: isRead,
  });

  if (output !== null && !isOurs) {
    note(
      'chain',
      `http_output goes to ${placeOf(output.url)} (${output.path}), and stays: Falco has one only; let what is there pass ` +
        `alerts on, falcosidekick with its webhook output: WEBHOOK_ADDRESS=${originOf(url)}`,
    );
  }
  const others = otherOutputsOf(before);
  if (!isOn(before.settings.get('json_output')?.value) && others.length > 0) {
    note('json_for_all', `json_output is for all outputs: ${others.join(', ')} become JSON too, a line an alert`);
  }
  if (before.main === null) {
    note(
      'no_configuration',
      `there is no ${join(dir, 'falco.yaml')}: what Falco reads is not known, its defaults are taken`,
    );
  }

  if (!isRead) {
    const has = isComplete(before, { version, url, elsewhere: output !== null && !isOurs }) && rulesList === null;
    if (!has) {
      note(
        'by_hand',
        isSince(version, '0.38')
          ? `config_files in ${before.main} does not name ${join(literalDir(before, dir), 'config.d')}: put the keys into falco.yaml, or add it`
          : `Falco reads config.d since 0.38, this one is ${version.text}: put the keys into ${join(dir, 'falco.yaml')}`,
      );
    }
    return {
      files: [rules],
      byHand: has ? null : text,
      http: output === null ? 'by_hand' : isOurs ? 'ours' : 'elsewhere',
      notes,
    };
  }

  if (isSince(version, '0.39') && !withAppends) {
    note(
      'append_output_left',
      `config.d replaces lists here (strategy ${before.fragments}), and there is an append_output: add the fields to it by hand`,
    );
  }
  if (rulesList !== null && !canAppend) {
    note('rules_unread', `${rulesKey(before)} does not name ${rulesList.path}: add it by hand`);
  }
  const after = before.main === null ? before : read(new Map([[own, text]]));
  for (const key of ['json_output', 'json_include_output_fields_property'] as const) {
    const setting = after.settings.get(key);
    if (setting !== undefined && !isOn(setting.value)) {
      note('overridden', `${setting.path} sets ${key} to false after us: take it out there`);
    }
  }
  const reached = httpOutputOf(after);
  if (before.main !== null && output === null && (reached === null || !isSamePlace(reached.url, url))) {
    const by = after.settings.get('http_output')?.path ?? own;
    note('overridden', `${by} decides about http_output: let it go to ${originOf(url)} there`);
  }

  const isSecret = output === null && holdsSecret(url);
  const config: PlannedFile = {
    path: configPath,
    text,
    mode: isSecret ? 0o600 : 0o644,
    why: [
      'JSON alerts',
      ...(withAppends ? ['addresses on every network rule'] : []),
      ...(output === null ? [`posted to ${originOf(url)}`] : ['no http_output']),
      ...(canAppend && rulesList !== null ? ['the rules file named'] : []),
    ].join(', '),
  };
  return {
    files: [config, rules],
    byHand: null,
    http: output === null ? 'laid' : isOurs ? 'ours' : 'elsewhere',
    notes,
  };
}

/** Null: Falco reads the rules file already. */
function rulesListWanted(
  configuration: FalcoConfiguration,
  dir: string,
): { readonly key: string; readonly path: string } | null {
  if (configuration.main === null) return null;
  const places = [join(dir, 'rules.d'), join(dir, rulesPath)];
  if (rulesPaths(configuration).some((path) => places.includes(inside(dir, path)))) return null;
  return { key: rulesKey(configuration), path: join(literalDir(configuration, dir), rulesPath) };
}

/** How the configuration names the directory: in a container it is /etc/falco, wherever it is mounted from. */
function literalDir({ isHere }: FalcoConfiguration, dir: string): string {
  return isHere ? dir : defaultFalcoDir;
}

/** All that the keys would bring is there already. */
function isComplete(
  configuration: FalcoConfiguration,
  { version, url, elsewhere }: { readonly version: FalcoVersion; readonly url: string; readonly elsewhere: boolean },
): boolean {
  const { settings } = configuration;
  const output = httpOutputOf(configuration);
  const isPosted = elsewhere || (output !== null && isSamePlace(output.url, url));
  const appends: unknown = settings.get('append_output')?.value;
  const hasFields =
    !isSince(version, '0.39') || (Array.isArray(appends) && JSON.stringify(appends).includes('"fd.cip"'));
  const fields = settings.get('json_include_output_fields_property');
  const hasNoFields = fields !== undefined && !isOn(fields.value);
  return isOn(settings.get('json_output')?.value) && isPosted && hasFields && !hasNoFields;
}

interface Parts {
  readonly url: string;
  readonly http: boolean;
  readonly appends: boolean;
  readonly rules: { readonly key: string; readonly path: string } | null;
  readonly isFragment: boolean;
}

/** The file of falco/, without the keys that this Falco does not know or that are somebody else's. */
export function compose(version: FalcoVersion, { url, http, appends, rules, isFragment }: Parts): string {
  const leave = new Set<string>();
  if (!http) leave.add('http_output');
  if (!appends) leave.add('append_output');
  if (!isSince(version, '0.41')) leave.add('json_include_output_fields_property');
  const paragraphs = configFile
    .trimEnd()
    .split('\n\n')
    .map((paragraph) => without(paragraph, leave))
    .filter((paragraph) => paragraph !== '');
  // What introduces the file is for people who lay it by hand.
  if (!isFragment)
    paragraphs[0] = '# Falco → falcodrop: keys for falco.yaml, each in the place of the one that is there.';
  else if (!http) paragraphs[0] = '# Falco → falcodrop, without http_output, which is set elsewhere.';
  if (rules !== null) paragraphs.push(`${rules.key}:\n  - ${scalar(rules.path)}`);
  let text = `${paragraphs.join('\n\n')}\n`;
  if (url !== defaultUrl) text = text.replace(`url: ${defaultUrl}`, () => `url: ${scalar(url)}`);
  // Since 0.37; what came before closes after each alert.
  if (!isSince(version, '0.37')) text = text.replace('\n  keep_alive: true', '');
  return text;
}

/** Keys of the outermost level go with the comments right above them and what is indented below them. */
function without(paragraph: string, leave: ReadonlySet<string>): string {
  const kept: string[] = [];
  let comments: string[] = [];
  let isLeft = false;
  for (const line of paragraph.split('\n')) {
    const key = /^([a-z_]+):/.exec(line)?.[1];
    if (line.startsWith('#')) {
      comments.push(line);
    } else if (key !== undefined) {
      isLeft = leave.has(key);
      if (!isLeft) kept.push(...comments, line);
      comments = [];
    } else if (!isLeft) {
      kept.push(line);
    }
  }
  return [...kept, ...comments].join('\n');
}

/** Plain where YAML reads it as that text, else in double quotes, whose escapes are JSON's. */
function scalar(text: string): string {
  return /^[A-Za-z0-9/][A-Za-z0-9/._:@-]*$/.test(text) && !text.endsWith(':') ? text : JSON.stringify(text);
}

/** The same host and port; every name of this host is the same. */
function isSamePlace(one: string, other: string): boolean {
  if (!URL.canParse(one) || !URL.canParse(other)) return false;
  const [a, b] = [new URL(one), new URL(other)];
  const hostOf = ({ hostname }: URL): string => (isLoopback(hostname) ? 'loopback' : hostname);
  const portOf = ({ port, protocol }: URL): string => port || (protocol === 'https:' ? '443' : '80');
  return hostOf(a) === hostOf(b) && portOf(a) === portOf(b);
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
}

/** Without user, password and path, where secrets stand. */
function originOf(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}/`;
}

function placeOf(url: string): string {
  return URL.canParse(url) ? originOf(url) : 'something that is no URL as it stands';
}

/** Basic, or a path that is not ours by default. */
function holdsSecret(url: string): boolean {
  const { username, password, pathname, search } = new URL(url);
  return username !== '' || password !== '' || search !== '' || !['/', '/falco'].includes(pathname);
}

/** `falcodrop check`: everything that is wrong with the configuration, at once. Changes nothing. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Config } from '../config/config.ts';
import { formatFalcoAddress } from '../config/falco-address.ts';
import type { Examined } from '../config/load.ts';
import { defaultConfigPath } from '../config/path.ts';
import type { Place, Problem } from '../config/problem.ts';
import { FalcodropError } from '../errors.ts';
import { native } from '../kernel/native.ts';
import { readAccountId } from './account.ts';
import { allowFolderOf, readAllowFolder } from './allow-folder.ts';
import { type Call, flag } from './call.ts';
import type { Note } from './output/answer.ts';
import { clean } from './output/clean.ts';
import { namedConfig } from './settings.ts';

export async function checkConfig(call: Call): Promise<void> {
  const { answer } = call;
  const { examineConfig } = await import('../config/load.ts');
  const { errorOf } = await import('../config/problem.ts');
  const { secretProblems } = await import('../config/secret.ts');
  const named = namedConfig(call);
  const examined = examineConfig(named, call.environment);
  const secrets = secretProblems(examined.held, call.environment);
  const problems = [
    ...examined.problems,
    ...secrets,
    ...(secrets.length > 0 ? [] : await httpProblems(examined, call.environment)),
    ...allowProblems(allowFolderOf(call)),
  ];
  const warnings = examined.config === null ? [] : await warningsOf(examined, examined.config, named);
  if (problems.length > 0) answer.worsen(2);

  if (answer.json) {
    const shown = flag(call, 'print') && problems.length === 0 ? await heldObject(examined) : {};
    answer.object({
      valid: problems.length === 0,
      files: examined.files,
      problems: problems.map(problemObject),
      warnings,
      ...shown,
    });
    return;
  }
  // What could not be read makes the configuration wrong, as much as what stands in it.
  for (const problem of problems) answer.fail(errorOf({ ...problem, code: 'config_invalid' }));
  for (const { message } of warnings) answer.warn('config_invalid', message);
  if (problems.length > 0) {
    answer.line(problems.length === 1 ? 'there is a problem' : `there are ${problems.length} problems`);
  } else if (flag(call, 'print')) {
    const { printHeld } = await import('../config/print.ts');
    for (const line of printHeld(examined.held)) answer.line(line);
  } else {
    const { files } = examined;
    const what = files.length === 0 ? `there is no ${defaultConfigPath}, and the defaults hold` : files.join(', ');
    answer.line(`the configuration is right: ${clean(what, 4_000)}`);
  }
}

/**
 * What `falcodrop run` would refuse to listen with. What systemd has given none of here, or who asks may not read, the service may
 * have all the same.
 */
async function httpProblems({ config, held }: Examined, environment: NodeJS.ProcessEnv): Promise<Problem[]> {
  if (config === null || !config.http.enabled) return [];
  const { secretPath } = await import('../config/secret.ts');
  const { readAuthentication } = await import('../daemon/authentication.ts');
  const named = [config.http.token, config.http.basic, config.http.path, ...Object.values(config.http.tls ?? {})];
  if (named.some((secret) => secret !== null && secretPath(secret, environment) === null)) return [];
  try {
    readAuthentication(config.http, environment);
    return [];
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    if ((error.cause as NodeJS.ErrnoException | undefined)?.code === 'EACCES') return [];
    const [setting = 'http'] = /^http(\.\w+)+/.exec(error.message) ?? ['http.address'];
    const place = held.find(({ path }) => path.join('.') === setting)?.place ?? { kind: 'default' };
    return [{ code: 'config_invalid', place, setting, message: error.message, hint: error.hint ?? null }];
  }
}

/** Nothing of these keeps anything from starting, and each may be meant. */
async function warningsOf({ files, passedOver }: Examined, config: Config, named: string | undefined): Promise<Note[]> {
  const { distrust } = await import('../config/trust.ts');
  const notes: Note[] = [];
  for (const path of passedOver) {
    notes.push({ code: 'passed_over', message: `${path} is not read: names of what is end with .yaml` });
  }
  // Others are no warning but a problem: nobody named them.
  const [main] = files;
  if (named !== undefined && main !== undefined) {
    const why = distrust(resolve(main), statSync(main));
    if (why !== null) notes.push({ code: 'file_writable', message: `${main}: ${why.message}; ${why.hint}` });
  }
  for (const name of missingInterfaces(config.interfaces)) {
    notes.push({ code: 'interface_missing', message: `interfaces: there is no interface ${name} now` });
  }
  const { user, group } = config.service;
  if (readAccountId(user, '/etc/passwd') === null) {
    notes.push({ code: 'no_service_user', message: `service.user: there is no user ${user}: maps are made root's` });
  }
  if (readAccountId(group, '/etc/group') === null) {
    notes.push({
      code: 'no_service_group',
      message: `service.group: there is no group ${group}: maps are made root's`,
    });
  }
  const { http, journal, kafka, lines, grpc } = config;
  for (const { address, tls, enabled } of grpc) {
    for (const path of [tls?.ca, tls?.cert]) {
      if (!enabled || path === undefined || !isMissing(path)) continue;
      notes.push({
        code: 'file_missing',
        message: `grpc ${formatFalcoAddress(address)}: there is no file ${path} now`,
      });
    }
  }
  const isAny =
    http.enabled ||
    http.socket !== null ||
    journal.enabled ||
    lines.stdin ||
    lines.files.length > 0 ||
    grpc.some(({ enabled }) => enabled) ||
    kafka.some(({ enabled }) => enabled);
  if (!isAny) {
    const message = 'http, files, grpc, journal, kafka and stdin are all off: falcodrop run hears of no alert';
    notes.push({ code: 'no_source', message });
  }
  return notes;
}

/** What may not be looked at may be there. */
function isMissing(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

/** None where the addon is not built: other verbs say so. */
function missingInterfaces(names: readonly string[]): string[] {
  if (names.length === 0) return [];
  try {
    const there = new Set(
      native()
        .netlink.links()
        .map(({ name }) => name),
    );
    return names.filter((name) => !there.has(name));
  } catch (error) {
    if (error instanceof FalcodropError && error.code === 'addon_missing') return [];
    throw error;
  }
}

/** Of allow files, which root's `protect` reads. None for who may not read them. */
function allowProblems(folder: string): Problem[] {
  const about = (file: string, line: number, message: string): Problem => ({
    code: 'config_invalid',
    place: { kind: 'file', file, line: line === 0 ? null : line, column: null },
    setting: null,
    message,
    hint: null,
  });
  try {
    return readAllowFolder(folder).flatMap(({ path, problems }) =>
      problems.map(({ line, message }) => about(path, line, message)),
    );
  } catch (error) {
    if (!(error instanceof FalcodropError)) throw error;
    return error.code === 'not_permitted' ? [] : [about(folder, 0, error.message)];
  }
}

function problemObject({ place, setting, message, hint }: Problem) {
  return { ...placeObject(place), setting, message, hint };
}

function placeObject(place: Place) {
  const isFile = place.kind === 'file';
  return {
    file: isFile ? place.file : null,
    line: isFile ? place.line : null,
    column: isFile ? place.column : null,
    variable: place.kind === 'environment' ? place.variable : null,
  };
}

/** Settings as a file would have them, and where each comes from (null everywhere = the default). */
async function heldObject({ held }: Examined) {
  const { writtenSettings } = await import('../config/reading.ts');
  const origins = held.map(({ path, place }) => [path.join('.'), placeObject(place)]);
  return { settings: writtenSettings(held), origins: Object.fromEntries(origins) as unknown };
}

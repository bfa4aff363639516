/**
 * No Falco can be had where the tests run: programs that behave as its command line does, and systemctl's. What they print
 * and how they end is taken from Falco's sources: the summary of --validate on stdout, "Error: …" and status 1 when it fails,
 * the version as a line on stdout and one of the log on stderr. They know nothing of rules: text decides.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A rules file with this in it is refused by --validate. */
export const invalidText = 'STAND_IN_INVALID';
/** With this in any file that Falco would read, --dry-run fails. */
export const refusedText = 'STAND_IN_REFUSED';
/** With this in rules.d a started Falco dies. */
export const crashText = 'STAND_IN_CRASH';

const falcoSource = `
import { appendFileSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
const words = process.argv.slice(2);
const { STAND_IN_LOG: log, STAND_IN_VERSION: version = '0.43.1', STAND_IN_JSON: json } = process.env;
if (log !== undefined) appendFileSync(log, JSON.stringify(words) + '\\n');
const fail = (text) => { console.error('Error: ' + text); process.exit(1); };
const named = (name) => words.flatMap((word, n) => (word === name ? [words[n + 1]] : []));
if (words.includes(process.env.STAND_IN_FAILS)) fail('it was told to fail \\u001b[31m');
if (words.includes('--version')) {
  if (version === 'fails') fail('yaml-cpp: error at line 1, column 1: end of map not found');
  console.error('Sun Nov 22 14:00:00 2026: Falco version: ' + version + ' (x86_64)');
  if (json === undefined) console.log('Falco version: ' + version + '\\nLibs version:  0.22.1\\nPlugin API:    3.11.0');
  else console.log(JSON.stringify({ default_driver_version: '8.1.0+driver', falco_version: version }));
  process.exit(0);
}
const [main] = named('-c');
if (main !== undefined && !existsSync(main)) fail('Could not find configuration file at ' + main);
const files = named('--validate');
if (files.length > 0) {
  const bad = files.filter((file) => readFileSync(file, 'utf8').includes('${invalidText}'));
  const said = files.map((file) => bad.includes(file) ? file + ': Invalid\\n1 Error(s):\\nLOAD_ERR_COMPILE_CONDITION (Error compiling condition): \\u001b[31munexpected token' : file + ': Ok').join('\\n');
  console.log(said);
  if (bad.length > 0) fail(said);
  process.exit(0);
}
if (words.includes('--dry-run')) {
  const folder = dirname(main);
  const read = [main, ...['config.d', 'rules.d'].flatMap((name) => {
    const at = join(folder, name);
    return existsSync(at) ? readdirSync(at).map((each) => join(at, each)).filter((each) => statSync(each).isFile()) : [];
  })];
  for (const path of read) if (readFileSync(path, 'utf8').includes('${refusedText}')) fail('runtime error: ' + path);
  process.exit(0);
}
fail('nothing to do');
`;

/** Whatever STAND_IN_FAILS names fails. State lies in STAND_IN_STATE: `units` (one a line, active), `fail-restart`. */
const systemctlSource = `
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
const { STAND_IN_STATE: state, STAND_IN_DIR: dir } = process.env;
const words = process.argv.slice(2);
const units = readFileSync(join(state, 'units'), 'utf8').split('\\n').filter((line) => line !== '');
const crashed = existsSync(join(state, 'crashed'));
if (words[0] === 'restart') {
  appendFileSync(join(state, 'restarts'), words[1] + '\\n');
  if (existsSync(join(state, 'fail-restart'))) { console.error('Job for ' + words[1] + ' failed'); process.exit(1); }
  const rules = join(dir, 'rules.d');
  const crashes = existsSync(rules) && readdirSync(rules, { withFileTypes: true }).some((each) => each.isFile() && readFileSync(join(rules, each.name), 'utf8').includes('${crashText}'));
  writeFileSync(join(state, 'is-active'), crashes ? 'failed' : 'active');
  process.exit(0);
}
const active = existsSync(join(state, 'is-active')) ? readFileSync(join(state, 'is-active'), 'utf8') : 'active';
const asked = words.filter((word) => !word.startsWith('-') && word !== 'show');
const blocks = asked.map((name) => units.includes(name)
  ? 'Id=' + name + '\\nLoadState=loaded\\nActiveState=' + active + '\\nUnitFileState=enabled\\nMainPID=77\\nNRestarts=0'
  : 'Id=' + name + '\\nLoadState=not-found\\nActiveState=inactive\\nUnitFileState=');
console.log(blocks.join('\\n\\n'));
`;

export interface StandIns {
  /** For PATH. */
  readonly bin: string;
  readonly falco: string;
  readonly log: string;
  readonly state: string;
  readonly environment: NodeJS.ProcessEnv;
}

/** In `folder`, for a Falco that reads `dir`. One unit runs: falco-modern-bpf. */
export function makeStandIns(folder: string, dir: string): StandIns {
  const bin = join(folder, 'bin');
  const state = join(folder, 'state');
  const log = join(folder, 'falco.log');
  mkdirSync(bin, { recursive: true });
  mkdirSync(state, { recursive: true });
  for (const [name, source] of [
    ['falco', falcoSource],
    ['systemctl', systemctlSource],
  ] as const) {
    writeFileSync(join(bin, `${name}.mjs`), source);
    writeFileSync(join(bin, name), `#!/bin/sh\nexec '${process.execPath}' '${bin}/${name}.mjs' "$@"\n`);
    chmodSync(join(bin, name), 0o755);
  }
  writeFileSync(join(state, 'units'), 'falco-modern-bpf.service\n');
  return {
    bin,
    falco: join(bin, 'falco'),
    log,
    state,
    environment: {
      PATH: `${bin}:${process.env.PATH ?? ''}`,
      STAND_IN_LOG: log,
      STAND_IN_STATE: state,
      STAND_IN_DIR: dir,
    },
  };
}

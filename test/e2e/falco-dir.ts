/** A directory as /etc/falco is, and stand-ins for falco and systemctl beside it. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { type Ended, falcodrop, objects } from '../cli/falcodrop.ts';
import { makeStandIns, type StandIns } from '../falco/stand-in.ts';

export interface FalcoDir {
  /** The directory, /etc/falco of the test. */
  readonly dir: string;
  readonly folder: string;
  readonly standIns: StandIns;
  readonly write: (path: string, text: string, mode?: number) => void;
  readonly read: (path: string) => string;
  readonly has: (path: string) => boolean;
  readonly run: (words: readonly string[], environment?: NodeJS.ProcessEnv) => Ended;
  /** With --json: status, the object that was said, and the error. */
  readonly json: (words: readonly string[], environment?: NodeJS.ProcessEnv) => Said;
  /** Every file, folder and link below `dir`, with mode, owner, time and text. */
  readonly tree: () => Record<string, string>;
  /** The command lines of falco since the last call. */
  readonly calls: () => string[][];
  readonly close: () => void;
}

export interface Said {
  readonly status: number | null;
  readonly said: Record<string, unknown> | undefined;
  readonly error: Record<string, unknown> | undefined;
}

export function makeFalcoDir(): FalcoDir {
  const folder = mkdtempSync(join(tmpdir(), 'falcodrop-falco-'));
  chmodSync(folder, 0o755);
  const dir = join(folder, 'etc');
  for (const name of ['', 'config.d', 'rules.d']) mkdirSync(join(dir, name), { mode: 0o755 });
  const standIns = makeStandIns(folder, dir);
  const write = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), text);
    chmodSync(join(dir, path), mode);
  };
  write('falco_rules.yaml', '- macro: never_true\n  condition: (evt.num=0)\n');
  write(
    'falco.yaml',
    `config_files: [${dir}/config.d]\nrules_files: [${dir}/falco_rules.yaml, ${dir}/falco_rules.local.yaml, ${dir}/rules.d]\n`,
  );
  const run: FalcoDir['run'] = (words, environment = {}) =>
    falcodrop([...words, '--falco-dir', dir], { FALCODROP_CONFIG: '', ...standIns.environment, ...environment });
  return {
    dir,
    folder,
    standIns,
    write,
    read: (path) => readFileSync(join(dir, path), 'utf8'),
    has: (path) => lstatSync(join(dir, path), { throwIfNoEntry: false }) !== undefined,
    run,
    json: (words, environment) => {
      const { status, stdout, stderr } = run([...words, '--json'], environment);
      return { status, said: objects(stdout)[0], error: objects(stderr).at(-1) };
    },
    tree: () => treeOf(dir),
    calls: () => {
      const text =
        lstatSync(standIns.log, { throwIfNoEntry: false }) === undefined ? '' : readFileSync(standIns.log, 'utf8');
      rmSync(standIns.log, { force: true });
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as string[]);
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function treeOf(dir: string): Record<string, string> {
  const paths = readdirSync(dir, { recursive: true, encoding: 'utf8' }).toSorted();
  return Object.fromEntries(
    ['', ...paths].map((path) => {
      const at = join(dir, path);
      const status = lstatSync(at);
      const text = status.isFile()
        ? `${Math.round(status.mtimeMs)} ${readFileSync(at, 'utf8')}`
        : status.isSymbolicLink()
          ? readlinkSync(at)
          : '';
      return [relative(dir, at), `${status.mode.toString(8)} ${status.uid}:${status.gid} ${text}`];
    }),
  );
}

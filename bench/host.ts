/** What the benches stand on: a host with one uplink in a network namespace, the built command in it, and numbers as text. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Lab, openLab } from '../test/kernel/lab.ts';

export const root = join(import.meta.dirname, '..');
export const command = join(root, 'bin/falcodrop');
export const address = '203.0.113.10';

export interface Host {
  readonly lab: Lab;
  readonly namespace: string;
  /** `env NAME=VALUE … falcodrop ARGS`, with a state directory of that name. */
  argv(state: string, args: readonly string[], more?: Readonly<Record<string, string>>): [string, ...string[]];
  /** Runs it to its end, or throws with what it said. */
  must(state: string, args: readonly string[], more?: Readonly<Record<string, string>>): string;
  stateDir(state: string): string;
}

/** Runs `work` on such a host and takes it away. Root alone can. */
export async function onHost(addresses: number, work: (host: Host) => Promise<void> | void): Promise<void> {
  if (process.geteuid?.() !== 0) {
    process.stderr.write('the benches make network namespaces and attach XDP programs: run them as root\n');
    process.exitCode = 5;
    return;
  }
  const lab = openLab();
  try {
    const namespace = lab.namespace('e');
    const outside = lab.namespace('x');
    lab.veth(
      { namespace, name: 'uplink0', exact: true, addresses: [`${address}/24`] },
      { namespace: outside, name: 'x0', exact: true, addresses: ['203.0.113.1/24'] },
    );
    lab.exec(namespace, 'ip', 'route', 'add', 'default', 'via', '203.0.113.1');
    const etc = join(lab.directory, 'etc');
    mkdirSync(etc);
    const config = join(etc, 'falcodrop.yaml');
    const http = 'http: { port: 0 }';
    writeFileSync(config, `automatic: enforce\nhost_aliases: [edge-1]\nservice: { user: "0", group: "0" }\n${http}\n`);
    const host: Host = {
      lab,
      namespace,
      stateDir: (state) => join(lab.directory, state),
      argv: (state, args, more = {}) => {
        const settings = {
          FALCODROP_PIN_DIR: lab.pinDir,
          FALCODROP_STATE_DIR: join(lab.directory, state),
          FALCODROP_CONFIG: config,
          SSH_CONNECTION: '',
          ...more,
        };
        return ['env', ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), command, ...args];
      },
      must: (state, args, more) => {
        const done = lab.run(namespace, ...host.argv(state, args, more));
        if (done.status !== 0) throw new Error(`falcodrop ${args.join(' ')}: ${done.status}: ${done.stderr}`);
        return done.stdout;
      },
    };
    host.must('state', ['attach', 'uplink0', '--addresses', String(addresses), '--prefixes', '64']);
    lab.onClose(() => host.must('state', ['detach', '--all', '--purge']));
    await work(host);
  } catch (error) {
    // First of all: what the lab says about what is left behind comes of it.
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    await lab.close();
  }
}

/** The value below which that share of them lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export const ms = (value: number): string => `${value.toFixed(2)} ms`;

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

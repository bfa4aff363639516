/** The built command, run as people run it. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const command = `${root}bin/falcodrop`;

if (!existsSync(`${root}dist/main.js`)) throw new Error('the command is not built: make build');

/** No FALCODROP_ settings but those given, no SSH session, UTC. Places that are not there, so that no test meets the machine's. */
export function environmentOf(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(FALCODROP_|SSH_|NO_COLOR|FORCE_COLOR)/.test(name));
  return {
    ...Object.fromEntries(kept),
    TZ: 'UTC',
    FALCODROP_PIN_DIR: '/nonexistent/falcodrop/bpf',
    FALCODROP_STATE_DIR: '/nonexistent/falcodrop/state',
    ...more,
  };
}

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function falcodrop(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
  input: string | Buffer = '',
): Ended {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: environmentOf(environment),
    input,
    maxBuffer: 1 << 28,
  });
  return { status, stdout, stderr };
}

/** Every line as JSON; fails on one that is none. */
export function objects(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Reads the first `bytes` of stdout and goes away, as `head` does. */
export async function cutOff(
  args: readonly string[],
  bytes: number,
  environment: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const child = spawn(command, args, { env: environmentOf(environment), stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.length >= bytes) child.stdout.destroy();
  });
  const status = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  return { status, stdout, stderr };
}

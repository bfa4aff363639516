/**
 * `make test-nodes`: all tests with each Node that falcodrop supports, the newest of every release line, brought from npm into
 * .make/nodes. The addon and better-sqlite3 speak Node-API, so what one Node built serves all. NODES: which lines, default
 * "22 24 26"; T: which tests.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './lint.ts';

const lines = (process.env.NODES ?? '22 24 26').trim().split(/\s+/);
const npm = join(root, '.node/node_modules/npm/bin/npm-cli.js');

/** Path of the `node` of a release line. */
function bring(line: string): string {
  if (!/^\d+$/.test(line)) throw new Error(`NODES names release lines, as in "22 24"; ${JSON.stringify(line)} is none`);
  const place = join(root, '.make/nodes', line);
  const name = `node-linux-${process.arch}`;
  const node = join(place, 'node_modules', name, 'bin/node');
  if (existsSync(node)) return node;
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'package.json'), '{ "private": true }\n');
  execFileSync(process.execPath, [npm, 'install', '--no-audit', '--no-fund', '--loglevel=error', `${name}@${line}`], {
    cwd: place,
    stdio: 'inherit',
  });
  return node;
}

const told: string[] = [];
for (const line of lines) {
  const node = bring(line);
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
  process.stdout.write(`  NODE  ${version}\n`);
  const { status } = spawnSync(node, ['scripts/test.ts', ...process.argv.slice(2)], {
    cwd: root,
    stdio: 'inherit',
    // Tests start the command and scripts with the Node of PATH, the launcher with this one.
    env: { ...process.env, FALCODROP_NODE: node, PATH: `${join(node, '..')}:${process.env.PATH}` },
  });
  told.push(`${version}: ${status === 0 ? 'passed' : 'FAILED'}`);
  if (status !== 0) process.exitCode = 1;
}
process.stdout.write(`${told.join('\n')}\n`);

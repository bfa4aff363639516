import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { command } from '../cli/falcodrop.ts';
import { ended } from '../kernel/lab.ts';
import { differences, dropped, type Edge, openEdge } from './edge.ts';
import { alertAtEdge, listenTo, type Run } from './running.ts';

const [one, two, three, four] = ['203.0.113.7', '203.0.113.8', '203.0.113.9', '2001:db8:66::1'] as const;

let edge: Edge;
let log = '';
beforeEach(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\n' });
  log = join(edge.lab.directory, 'alerts.jsonl');
  edge.attach();
});
afterEach(async () => {
  edge.purge();
  await edge.lab.close();
});

const alert = (client: string): string => `${alertAtEdge(client)}\n`;

const start = (args: readonly string[]): Run =>
  listenTo(edge.lab.spawn(edge.namespace, edge.argv(['run', ...args]), { stdio: ['pipe', 'ignore', 'pipe'] }));

describe('with an end', () => {
  test('stdin: exit 0 when all is dropped and written down', async () => {
    const run = start(['--stdin']);
    run.child.stdin?.end(`${alert(one)}garbage\n${alert(two)}${alert(four).trimEnd()}`);
    await ended(run.child);
    expect({ status: run.child.exitCode, last: run.lines.at(-1) }).toMatchObject({
      status: 0,
      last: { msg: 'stopped', sources: { stdin: { received: 4, bad: 1, decided: 3 } } },
    });
    expect(dropped(edge.lab.pinDir, [one, two, three, four])).toEqual(new Set([one, two, four]));
    expect(differences(edge)).toEqual([]);
    expect(run.lines.some(({ msg }) => msg === 'listening')).toBe(false);
  });

  test('program_output with keep_alive: false: one process an alert, several at once', async () => {
    const runs = [one, two, three].map((client) => {
      const run = start(['--stdin']);
      run.child.stdin?.end(alert(client));
      return run;
    });
    for (const { child } of runs) {
      await ended(child);
      expect(child.exitCode).toBe(0);
    }
    expect(dropped(edge.lab.pinDir, [one, two, three, four])).toEqual(new Set([one, two, three]));
    expect(differences(edge)).toEqual([]);
  });

  test('a file, and one that is not there', async () => {
    writeFileSync(log, alert(one) + alert(two));
    const run = start(['--file', log]);
    await ended(run.child);
    expect(run.child.exitCode).toBe(0);
    expect(dropped(edge.lab.pinDir, [one, two, three])).toEqual(new Set([one, two]));
    const none = edge.run(['run', '--file', `${log}.none`, '--json']);
    expect(none.status).toBe(1);
    expect(none.stderr).toContain('"file_unreadable"');
    expect(edge.run(['run', '--follow']).status).toBe(2);
  });
});

test('a followed file, rotated, through kill -9: drops stand, and the next run reads on', async () => {
  writeFileSync(log, alert(one));
  const first = start(['--file', log, '--follow']);
  await first.said('decision', one);
  // A rotation before the first position is written down is not read on in: nobody knows of it.
  const isPlaced = () => readdirSync(edge.stateDir).some((name) => /^lines-.*\.json$/.test(name));
  await expect.poll(isPlaced, { timeout: 30_000 }).toBe(true);
  renameSync(log, `${log}.1`);
  appendFileSync(log, alert(two));
  await first.said('decision', two);
  first.child.kill('SIGKILL');
  await ended(first.child);
  appendFileSync(log, alert(three));
  const second = start(['--file', log, '--follow']);
  await second.said('decision', three);
  second.child.kill('SIGTERM');
  await ended(second.child);
  expect(second.child.exitCode).toBe(0);
  expect(dropped(edge.lab.pinDir, [one, two, three, four])).toEqual(new Set([one, two, three]));
  expect(differences(edge)).toEqual([]);

  // Kept in order, so a third run decides only what is new.
  appendFileSync(log, alert(four));
  const third = start(['--file', log, '--follow']);
  await third.said('decision', four);
  third.child.kill('SIGTERM');
  await ended(third.child);
  expect(third.lines.filter(({ msg }) => msg === 'decision').map(({ offender }) => offender)).toEqual([four]);
});

describe('the recipes of docs/sources.md', () => {
  const guide = readFileSync(join(import.meta.dirname, '../../docs/sources.md'), 'utf8');
  const attacker = '203.0.113.66';

  test('a file', async () => {
    const block = /```sh\nmkdir (\/tmp\/\w+)\n(echo [^\n]*)\nfalcodrop run (--file [^\n]*)\n```/.exec(guide);
    const [, folder = '', prepare = '', typed = ''] = block ?? [];
    expect(folder).not.toBe('');
    const here = (text: string): string => text.replaceAll(folder, edge.lab.directory);
    edge.lab.exec(edge.namespace, 'bash', '-euc', here(prepare));
    const run = start(here(typed).split(' '));
    await run.said('decision', attacker);
    run.child.kill('SIGTERM');
    await ended(run.child);
    expect(dropped(edge.lab.pinDir, [attacker, one])).toEqual(new Set([attacker]));
  });

  test('program_output, as Falco starts it: alerts one after the other', async () => {
    const [, typed = ''] = /program_output: \{[^\n]*keep_alive: true, program: "([^"]*)"/.exec(guide) ?? [];
    expect(typed).toMatch(/^falcodrop run --stdin 2>>/);
    const out = join(edge.lab.directory, 'falcodrop.log');
    const program = typed.replace('falcodrop ', `${command} `).replace(/2>>.*/, `2>>${out}`);
    // popen(3)
    const child = edge.lab.spawn(edge.namespace, edge.argv([], { argv: ['sh', '-c', program] }), {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    const isDecided = (client: string) => () => existsSync(out) && readFileSync(out, 'utf8').includes(client);
    for (const client of [one, two]) {
      child.stdin?.write(alert(client));
      await expect.poll(isDecided(client), { timeout: 30_000 }).toBe(true);
    }
    child.stdin?.end();
    await ended(child);
    expect(child.exitCode).toBe(0);
    expect(dropped(edge.lab.pinDir, [one, two, three])).toEqual(new Set([one, two]));
  });
});

test('by the configuration, beside HTTP', async () => {
  writeFileSync(
    edge.configFile,
    `${readFileSync(edge.configFile, 'utf8')}http: { port: 0 }\nfiles: [{ path: ${log} }]\n`,
  );
  const run = start([]);
  await run.said('listening');
  await run.said('waiting for the file');
  writeFileSync(log, alert(one));
  await run.said('decision', one);
  run.child.kill('SIGTERM');
  await ended(run.child);
  expect(run.child.exitCode).toBe(0);
  expect(dropped(edge.lab.pinDir, [one, two])).toEqual(new Set([one]));
});

/** `falcodrop init` where several interfaces lead outside, and `falcodrop attach` by what it wrote. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { command, environmentOf } from '../cli/falcodrop.ts';
import { type Lab, openLab } from '../kernel/lab.ts';

let lab: Lab;
let edge = '';

beforeAll(() => {
  lab = openLab();
  edge = lab.namespace('e');
  const peer = lab.namespace('p');
  for (const n of [0, 1]) {
    lab.veth(
      { namespace: edge, name: `up${n}`, exact: true, addresses: [`198.51.10${n}.1/24`] },
      { namespace: peer, name: `x${n}`, exact: true },
    );
  }
});
afterAll(() => lab.close());

const pathOf = (name: string): string => join(lab.directory, name, 'falcodrop.yaml');

function argvOf(args: readonly string[]): string[] {
  const { FALCODROP_PIN_DIR: _pins, FALCODROP_STATE_DIR: _state, ...rest } = environmentOf();
  const places = [`FALCODROP_PIN_DIR=${lab.pinDir}`, `FALCODROP_STATE_DIR=${join(lab.directory, 'state')}`];
  return ['env', '-i', `PATH=${rest.PATH ?? ''}`, 'TZ=UTC', ...places, command, ...args];
}

function init(name: string, ...args: readonly string[]) {
  const [program = '', ...words] = argvOf(['init', '--config', pathOf(name), ...args]);
  return lab.run(edge, program, ...words);
}

test('without a default route it says which there are, and asks for one', () => {
  const { status, stderr } = init('none');
  expect(status).toBe(4);
  expect(stderr).toMatch(/no interface with a default route/);
  expect(stderr).toMatch(/--interface IF; there are up0, up1/);
  expect(existsSync(pathOf('none'))).toBe(false);
});

test('one default route: that interface; attach takes it when none is named', () => {
  lab.exec(edge, 'ip', 'route', 'add', 'default', 'via', '198.51.100.254');
  expect(init('one')).toMatchObject({ status: 0, stderr: '' });
  expect(loadConfig(pathOf('one'), {}).interfaces).toEqual(['up0']);
  const [program = '', ...words] = argvOf(['attach', '--json', '--config', pathOf('one')]);
  const { status, stdout, stderr } = lab.run(edge, program, ...words);
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ interface: 'up0', status: 'attached' });
  const [again = '', ...check] = argvOf(['check', '--config', pathOf('one')]);
  expect(lab.run(edge, again, ...check).status).toBe(0);
});

test('several: a terminal is asked, by name or number; without one they are named', () => {
  lab.exec(edge, 'ip', 'route', 'add', 'default', 'via', '198.51.101.254', 'metric', '9');
  const refused = init('several');
  expect(refused.status).toBe(2);
  expect(refused.stderr).toMatch(/several interfaces have a default route: up0, up1\n.*--interface up0/);
  expect(existsSync(pathOf('several'))).toBe(false);

  const typed = (name: string, answer: string) => {
    const line = argvOf(['init', '--config', pathOf(name)])
      .map((word) => `'${word}'`)
      .join(' ');
    return lab.run(edge, 'bash', '-c', `printf '${answer}\\n' | script -qec "${line}" /dev/null`);
  };
  for (const [name, answer] of [
    ['named', 'up1'],
    ['numbered', '2'],
  ] as const) {
    const { status, stdout } = typed(name, answer);
    expect(status, stdout).toBe(0);
    expect(stdout).toMatch(/1 {2}up0\r?\n +2 {2}up1/);
    expect(readFileSync(pathOf(name), 'utf8')).toMatch(/^interfaces: \[up1\]$/m);
  }
  expect(typed('neither', 'eth9')).toMatchObject({ status: 1 });
  expect(existsSync(pathOf('neither'))).toBe(false);
});

test('attach without a name and without interfaces in the configuration is told both ways', () => {
  const [program = '', ...words] = argvOf(['attach']);
  const { status, stderr } = lab.run(edge, program, ...words);
  expect(status).toBe(2);
  expect(stderr).toMatch(/no interface was named\n.*interfaces: \[IF\]/);
});

/** Tables on a terminal of 80 columns, and in a pipe. */
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Edge, openEdge } from './edge.ts';

let edge: Edge;
const long = '2001:db8:1111:2222:3333:4444:5555:6666';
beforeAll(() => {
  edge = openEdge();
  edge.attach();
  edge.must(['block', long, '203.0.113.128/25', '--for', '2d', '--reason', 'scans of every port there is, for days']);
  edge.must(['block', '2001:db8:1111:2222:3333:4444:5555:6660/124', '--forever'], {
    environment: { SUDO_USER: 'somebody-with-a-long-name' },
  });
});
afterAll(() => edge.lab.close());

/** What a terminal so wide is shown, without colours. */
function shown(columns: number, args: readonly string[]): string[] {
  const words = edge.argv(args).map((word) => `'${word}'`);
  const { stdout } = edge.lab.run(
    edge.namespace,
    ...(['script', '-qec', `stty cols ${columns} rows 24; ${words.join(' ')}`, '/dev/null'] as const),
  );
  return stripVTControlCharacters(stdout)
    .split(/\r?\n/)
    .filter((line) => line !== '');
}

test.each([
  ['list', ['list'], /^2001:db8:1111:2222:3333:4444:5555:6666 +enforce +\S+/],
  ['show', ['show', long], /^2001:db8:1111:2222:3333:4444:5555:6666 +enforce +\S+/],
  ['history', ['history'], /made +2001:db8:1111:2222:3333:4444:5555:6666/],
])('%s fits a terminal, and is whole in a pipe', (_, args, row) => {
  const lines = shown(80, args);
  const at = lines.findIndex((line) => row.test(line));
  expect(at, lines.join('\n')).toBeGreaterThan(0);
  const table = lines.filter(
    (line) => /^(TARGET|WHEN|2001:|203\.|20\d\d-|\S*\/124)/.test(line) && !/ is dropped /.test(line),
  );
  expect(table.length).toBeGreaterThan(1);
  for (const line of table) expect(line.length, line).toBeLessThanOrEqual(80);
  expect(edge.must(args)).toContain('scans of every port there is, for days');
  expect(shown(200, args).join('\n')).toContain('scans of every port there is, for days');
});

/**
 * Every command of docs/incident.md, in its order, on a host with a real attacker: it must end as the page says, and answer what
 * the page says, numbers aside. INCIDENT=write writes the answers into the page.
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { command } from '../cli/falcodrop.ts';
import { canary } from '../daemon/double.ts';
import { type Edge, openEdge, uplink } from './edge.ts';

const page = fileURLToPath(new URL('../../docs/incident.md', import.meta.url));
const attacker = '203.0.113.66';
/** Of the page; the others end with 0. */
const statuses: Readonly<Record<string, number>> = { 'falcodrop show 203.0.113.66': 4 };

let edge: Edge;
let path = '';
beforeAll(() => {
  edge = openEdge({ config: 'automatic: enforce\nhost_aliases: [edge]\n' });
  edge.lab.exec(edge.outside, 'ip', 'address', 'add', `${attacker}/32`, 'dev', 'x0');
  edge.attach();
  const bin = join(edge.lab.directory, 'bin');
  mkdirSync(bin);
  symlinkSync(command, join(bin, 'falcodrop'));
  path = `${bin}:${process.env.PATH}`;
  const alert = canary('203.0.113.7', { hostname: 'edge' }).replaceAll('203.0.113.10', '198.51.100.1');
  writeFileSync(join(edge.lab.directory, 'alerts.jsonl'), `${alert}\n`);
  edge.lab.spawn(edge.outside, ['ping', '-q', '-n', '-i', '0.005', '-I', attacker, '198.51.100.1'], {
    stdio: 'ignore',
  });
});
afterAll(() => edge.lab.close());

function answer(line: string): { readonly status: number | null; readonly text: string } {
  const script = `cd ${edge.lab.directory} && ${line.replaceAll('eth0', uplink)}`;
  const { status, stdout, stderr } = edge.lab.run(
    edge.namespace,
    ...edge.argv(['-c', script], { argv: ['sh'], environment: { PATH: path } }),
  );
  const text = `${stdout}${stderr}`
    .replaceAll(uplink, 'eth0')
    .replaceAll(edge.lab.pinDir, '/run/falcodrop/bpf')
    .replaceAll(edge.lab.directory, '')
    .replaceAll(/\/etc\//g, '/etc/falcodrop/');
  return { status, text: text.trimEnd() };
}

/** What differs from run to run and from host to host: numbers, widths of columns, which counters moved, the host's resolvers. */
const shape = (text: string): string =>
  text
    .replaceAll(/\b[0-9a-f]{64}\b/g, '#')
    .replaceAll(/^pass .*\n/gm, '')
    .replaceAll(/^.* name server\n/gm, '')
    .replaceAll(/\d+/g, '#')
    .replaceAll(/#(?:[-:.,/ ]#)+/g, '#')
    .replaceAll(/ ?\b(?:[smhdw]|ms|[kMG]?i?B)\b/g, '')
    .replaceAll(/[ \t]+/g, ' ')
    .replaceAll(/#(?: #)+/g, '#')
    .trim();

test('every command answers as the page says', { timeout: 300_000 }, () => {
  const isWriting = process.env.INCIDENT === 'write';
  const source = readFileSync(page, 'utf8');
  let count = 0;
  let shown = 0;
  const written = source.replaceAll(/```console\n([\s\S]*?)```/g, (_, block: string) => {
    const steps = block.split(/^(?=# )/m).map((step) => {
      const [first = '', ...rest] = step.trimEnd().split('\n');
      return { line: first.slice(2), said: rest.join('\n') };
    });
    const told = steps.map(({ line, said }) => {
      count++;
      const got = answer(line);
      // Only the first time: then he is blocked.
      const status = line in statuses && shown++ === 0 ? (statuses[line] ?? 0) : 0;
      expect(got.status, `${line}\n${got.text}`).toBe(status);
      if (!isWriting) expect(shape(got.text), line).toBe(shape(said));
      return `# ${line}\n${got.text === '' ? '' : `${got.text}\n`}`;
    });
    return `\`\`\`console\n${told.join('')}\`\`\``;
  });
  expect(count).toBeGreaterThanOrEqual(20);
  if (isWriting) writeFileSync(page, written);
});

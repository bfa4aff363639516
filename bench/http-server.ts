/**
 * The servers that http.ts compares, each in a process of its own. `bare`: node:http that collects a body, parses it and answers
 * 202. `falcodrop`: ours, with the queue, and everything up to the block list behind it, which here remembers nothing.
 * Prints a line {port}. Usage: http-server.ts bare|falcodrop|judging
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { openAlerts } from '../src/daemon/alerts.ts';
import { openLog } from '../src/daemon/log.ts';
import { defaultRules } from '../src/judge/judge.ts';
import { serveHttp } from '../src/sources/http.ts';
import { Intake } from '../src/sources/intake.ts';
import { wallClock } from '../src/time/clock.ts';
import { hostOf } from '../test/daemon/host.ts';

function tell(port: number): void {
  process.stdout.write(`${JSON.stringify({ port })}\n`);
}

function serveBare(): void {
  const server = createServer({ noDelay: true }, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      JSON.parse(Buffer.concat(chunks).toString('utf8'));
      response.writeHead(202, { 'content-length': 0 });
      response.end();
    });
  });
  server.listen(0, '127.0.0.1', () => tell((server.address() as AddressInfo).port));
}

/** `judging`: false leaves it at the queue, which is what the bare server is compared with. */
async function serveOurs(judging: boolean): Promise<void> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const facts = hostOf('203.0.113.10');
  const alerts = openAlerts({
    facts: () => facts,
    rules: { ...defaultRules, maxAlertAgeSeconds: 0 },
    state: { automatic: 'enforce' },
    blocklist: { blockAtOnce: () => 'blocked' },
    logger: openLog(nowhere).logger,
    clock: wallClock,
    onWritten: () => undefined,
  });
  const intake = new Intake(judging ? alerts.take : () => undefined);
  const { port } = await serveHttp({ address: '127.0.0.1', port: 0, intake });
  tell(port);
}

const [which] = process.argv.slice(2);
if (which === 'bare') serveBare();
else await serveOurs(which === 'judging');

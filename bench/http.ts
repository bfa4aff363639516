/**
 * What HTTP costs: alerts a second over kept-alive connections, and how long a sender is held that sends one after the other while
 * others flood. Ours (B) beside a bare node:http server that parses the body and answers (A), in turns, A B A B, each in a process
 * of its own; the ratio of a pair is that of neighbours in time.
 * Usage: http.ts [PAIRS] [ALERTS]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { median, quantile, root, say } from './host.ts';

const pairs = Number(process.argv[2] ?? 5);
const alerts = Number(process.argv[3] ?? 20_000);
const connections = 8;
const held = 2_000;

const bodies = readFileSync(join(root, 'test/fixtures/alerts/falco-0.43-append.jsonl'), 'utf8').trim().split('\n');

const kinds = ['bare', 'falcodrop', 'judging'] as const;
type Kind = (typeof kinds)[number];

interface Server {
  readonly child: ChildProcess;
  readonly port: number;
}

async function start(kind: Kind): Promise<Server> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'http-server.ts'), kind], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout === null) throw new Error('no pipe');
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { child, port: (JSON.parse(line) as { port: number }).port };
}

const requestOf = (body: string): string =>
  `POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: falcosecurity/falco\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const requests = bodies.map((body) => Buffer.from(requestOf(body)));

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(socket, 'connect');
  return socket;
}

/** One alert after the other on one connection, as Falco does: how long each was waited for, in ms, while `more` says so. */
async function send(port: number, more: (done: number) => boolean): Promise<number[]> {
  const socket = await open(port);
  const times: number[] = [];
  while (more(times.length)) {
    const begun = performance.now();
    socket.write(requests[times.length % requests.length] ?? '');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    if (!/^HTTP\/1\.1 (202|503)/.test(answer.toString('latin1'))) throw new Error(answer.toString('latin1'));
    times.push(performance.now() - begun);
  }
  socket.destroy();
  return times;
}

/** So many at once on a connection, in one write: next to nothing of the CPU is the sender's, and the server never waits for it. */
const batch = Buffer.concat(Array.from({ length: 64 }, (_, nth) => requests[nth % requests.length] ?? Buffer.alloc(0)));
const batched = 64;
/** Where the decimals of its seconds lie in each alert: with those of their own none is the same as another, which would count once. */
const decimals = [...batch.toString('latin1').matchAll(/"time":"[^."]*\.(?=\d{9}Z")/g)].map(
  ({ 0: text, index }) => index + text.length,
);
if (decimals.length !== batched) throw new Error(`${decimals.length} times in ${batched} alerts`);

let sent = 0;
function freshBatch(): Buffer {
  const fresh = Buffer.from(batch);
  for (const at of decimals) fresh.write(String(sent++ % 1_000_000_000).padStart(9, '0'), at, 'latin1');
  return fresh;
}

/** Of the judging server, since the start: its queue is bounded, and it answers faster than it judges. */
let shed = 0;

/** Alerts a second. */
async function throughput(port: number): Promise<number> {
  let left = alerts / batched;
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = await open(port);
      let [answers, rest] = [0, ''];
      let isEnough: () => void = () => undefined;
      socket.setEncoding('latin1').on('data', (text: string) => {
        const parts = (rest + text).split('HTTP/1.1 ');
        answers += parts.length - 1;
        // Shorter than what is counted: nothing is counted twice.
        rest = (parts.at(-1) ?? '').slice(-8);
        shed += text.split('retry-after').length - 1;
        if (answers >= batched) isEnough();
      });
      const closed = once(socket, 'close').then(() => {
        throw new Error('closed before the last answer');
      });
      while (left-- > 0) {
        answers = 0;
        const enough = new Promise<void>((resolve) => {
          isEnough = resolve;
        });
        socket.write(freshBatch());
        await Promise.race([enough, closed]);
      }
      closed.catch(() => undefined);
      socket.destroy();
    }),
  );
  return (Math.ceil(alerts / batched) * batched) / ((performance.now() - begun) / 1_000);
}

/** ms, of a sender beside three that send as fast as they can. */
async function holding(port: number): Promise<number[]> {
  let isOver = false;
  const flood = Array.from({ length: 3 }, () => send(port, () => !isOver));
  const times = await send(port, (done) => done < held);
  isOver = true;
  await Promise.all(flood);
  return times;
}

/** Of a process and its threads, ms; in the kernel's ticks of 10 (proc_pid_stat(5), fields 14 and 15, after the name). */
function cpuMs(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user, system] = fields.split(' ').slice(11, 13).map(Number);
  return 10 * ((user ?? 0) + (system ?? 0));
}

const servers = new Map<Kind, Server>();
try {
  for (const kind of kinds) servers.set(kind, await start(kind));
  const portOf = (kind: Kind): number => servers.get(kind)?.port ?? 0;
  // Cold code is nobody's figure.
  for (const kind of kinds) await throughput(portOf(kind));
  const rates: Record<Kind, number[]> = { bare: [], falcodrop: [], judging: [] };
  const cpu: Record<Kind, number> = { bare: 0, falcodrop: 0, judging: 0 };
  const waits: Record<Kind, number[]> = { bare: [], falcodrop: [], judging: [] };
  for (let pair = 0; pair < pairs; pair++) {
    for (const kind of kinds) {
      const pid = servers.get(kind)?.child.pid ?? 0;
      const before = cpuMs(pid);
      rates[kind].push(await throughput(portOf(kind)));
      cpu[kind] += cpuMs(pid) - before;
    }
    for (const kind of kinds) waits[kind].push(...(await holding(portOf(kind))));
  }
  const ratio = (kind: Kind): number => median(rates[kind].map((rate, nth) => rate / (rates.bare[nth] ?? Number.NaN)));
  const names: Record<Kind, string> = {
    bare: 'node:http, body parsed (A)',
    falcodrop: 'falcodrop, queued (B)',
    judging: 'falcodrop, queued and judged',
  };
  say(`${alerts} alerts over ${connections} connections, medians of ${pairs}:`);
  for (const kind of kinds) {
    const rate = median(rates[kind]).toFixed(0).padStart(7);
    const us = ((cpu[kind] * 1_000) / (alerts * pairs)).toFixed(1);
    const share = (cpu.bare / cpu[kind]).toFixed(2);
    say(
      `${names[kind].padEnd(30)} ${rate} alerts/s   : bare ${ratio(kind).toFixed(2)}   CPU ${us} µs   : bare ${share}`,
    );
  }
  if (shed > 0) say(`of them ${shed} were shed, while the queue was full`);
  say(`\na sender that waits for each answer, beside three that flood, ${held * pairs} alerts:`);
  for (const kind of kinds) {
    const [middle, high, most] = [0.5, 0.99, 0.999].map((share) => quantile(waits[kind], share).toFixed(3));
    say(`${names[kind].padEnd(30)} median ${middle} ms   p99 ${high} ms   p99.9 ${most} ms`);
  }
} finally {
  for (const { child } of servers.values()) child.kill('SIGKILL');
}

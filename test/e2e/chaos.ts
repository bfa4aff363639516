/**
 * Senders and daemon killed and started anew at random, over several sources at once; then what each way promises is compared with maps,
 * ledger and history.
 *
 * What is promised, and nothing more is counted:
 * - a file and the journal: every line or entry that is whole, whatever was killed;
 * - HTTP: a 2xx says that the alert is queued, in memory. It is decided, unless the daemon is killed first: so those count that were
 *   answered by a daemon that ended in order, or before another one of the same sender that this daemon is known to have decided;
 * - gRPC: Falco takes an alert out of its queue and then writes it. What it had taken when a side was killed is gone; so those count
 *   that lie, in its queue's order, between two that one daemon is known to have decided, or after which nothing was killed.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdirSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { formatPrefix } from '../../src/address/prefix.ts';
import { Ledger } from '../../src/blocklist/ledger/ledger.ts';
import { canary } from '../daemon/double.ts';
import { ended, until } from '../kernel/lab.ts';
import { encodeAlert } from '../sources/grpc/falco.ts';
import { append, alert as journalEntry } from '../sources/journal/journals.ts';
import { differences, type Edge, heldIn, openEdge } from './edge.ts';

const port = 2804;
/** What the built-in policy does with the canary rule. */
const policySeconds = 3_600;

type HttpName = 'http' | 'http:unix';
const httpNames = ['http', 'http:unix'] as const;

/** One run of the daemon. */
interface Life {
  readonly child: ChildProcess;
  /** By source, offenders that it says it has decided. */
  readonly decided: Map<string, Set<string>>;
  endedInOrder: boolean;
}

/** One run of Falco with gRPC. */
interface Falco {
  readonly child: ChildProcess;
  readonly queued: string[];
}

interface Taken {
  readonly client: string;
  readonly life: Life;
}

export interface ChaosResult {
  readonly failures: readonly string[];
  /** By way: how many were sent, and how many of these were promised. */
  readonly counts: Readonly<Record<string, { readonly sent: number; readonly promised: number }>>;
  readonly events: Readonly<Record<string, number>>;
}

/** Mulberry32; each who does something has one of his own, or the moments of one would choose what another does. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

class Chaos {
  readonly #edge: Edge;
  readonly #seed: number;
  readonly #log: string;
  readonly #falcoSocket: string;
  readonly #httpSocket: string;
  readonly #journal: string;
  readonly #lives: Life[] = [];
  readonly #falcos: Falco[] = [];
  readonly #taken: Record<HttpName, Taken[]> = { http: [], 'http:unix': [] };
  /** By client, when it was sent first, ms since 1970. */
  readonly #sentAt = new Map<string, number>();
  readonly #sent: Record<string, Set<string>> = {};
  readonly #always = new Set<string>();
  readonly #events: Record<string, number> = {};
  readonly #failures: string[] = [];
  #isOver = false;
  #rotations = 0;
  /** Of the file: they come over the journal, too. */
  #twice: readonly string[] = [];

  constructor(edge: Edge, seed: number) {
    this.#edge = edge;
    this.#seed = seed;
    const { directory } = edge.lab;
    this.#log = join(directory, 'alerts.jsonl');
    this.#falcoSocket = join(directory, 'falco.sock');
    this.#httpSocket = join(directory, 'http.sock');
    this.#journal = join(directory, 'journal');
    mkdirSync(this.#journal);
    writeFileSync(this.#log, '');
    appendFileSync(
      edge.configFile,
      [
        `http: { port: ${port}, socket: ${this.#httpSocket} }`,
        `files: [{ path: ${this.#log} }]`,
        `grpc: [{ address: unix://${this.#falcoSocket} }]`,
        `journal: { enabled: true, directory: ${this.#journal} }`,
        '',
      ].join('\n'),
    );
  }

  async run(seconds: number): Promise<ChaosResult> {
    await this.#start();
    const over = sleep(seconds * 1000).then(() => {
      this.#isOver = true;
    });
    const actors = [
      ...httpNames.map((name) => this.#sendHttp(name)),
      this.#writeFile(),
      this.#writeJournal(),
      this.#feedFalco(),
      this.#killDaemons(),
    ];
    try {
      await Promise.all([over, ...actors]);
      await this.#finish();
    } catch (error) {
      this.#isOver = true;
      this.#failures.push(error instanceof Error ? error.message : String(error));
      await Promise.allSettled(actors);
    }
    const promised = this.#promised();
    const counts = Object.entries(this.#sent).map(([way, clients]) => {
      const kept = [...clients].filter((client) => promised.has(client)).length;
      return [way, { sent: clients.size, promised: kept }] as const;
    });
    return { failures: this.#failures, counts: Object.fromEntries(counts), events: this.#events };
  }

  // --- who is killed ------------------------------------------------------------------------------------------------

  async #start(): Promise<void> {
    const { lab, namespace, argv } = this.#edge;
    const child = lab.spawn(namespace, argv(['run']), { stdio: ['ignore', 'ignore', 'pipe'] });
    const life: Life = { child, decided: new Map(), endedInOrder: false };
    this.#lives.push(life);
    if (child.stderr === null) throw new Error('no pipe');
    let isReady = false;
    createInterface(child.stderr).on('line', (text) => {
      if (!text.startsWith('{')) return;
      const line = JSON.parse(text) as Readonly<Record<string, unknown>>;
      if (line.msg === 'ready') isReady = true;
      if (line.msg === 'alert not judged') this.#failures.push(text);
      if (line.msg !== 'decision' || typeof line.offender !== 'string' || typeof line.source !== 'string') return;
      const of = life.decided.get(line.source) ?? new Set();
      life.decided.set(line.source, of.add(line.offender));
    });
    await until('the daemon', () => isReady || child.exitCode !== null, 30_000);
    if (!isReady) throw new Error(`the daemon has ended with ${child.exitCode}`);
  }

  async #killDaemons(): Promise<void> {
    const random = randomOf(this.#seed + 1);
    while (!this.#isOver) {
      await sleep(200 + random() * 2_000);
      const life = this.#lives.at(-1);
      if (life === undefined || this.#isOver) return;
      // Each in its turn, that a short run has both.
      await this.#end(life, this.#lives.length % 3 === 2 ? 'SIGTERM' : 'SIGKILL');
      await sleep(random() < 0.5 ? 0 : random() * 300);
      await this.#start();
    }
  }

  async #end(life: Life, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#happened(`daemon ${signal}`);
    life.child.kill(signal);
    await ended(life.child);
    life.endedInOrder = life.child.exitCode === 0;
    if (signal === 'SIGTERM' && !life.endedInOrder) this.#failures.push(`SIGTERM: ended with ${life.child.exitCode}`);
  }

  // --- who sends ----------------------------------------------------------------------------------------------------

  async #sendHttp(name: HttpName): Promise<void> {
    const random = randomOf(this.#seed + 5 + httpNames.indexOf(name));
    const script = fileURLToPath(new URL('fixtures/send.ts', import.meta.url));
    const to = name === 'http' ? String(port) : this.#httpSocket;
    while (!this.#isOver) {
      const { lab, namespace } = this.#edge;
      const child = lab.spawn(namespace, [process.execPath, script, to], { stdio: ['pipe', 'pipe', 'inherit'] });
      if (child.stdout === null) throw new Error('no pipe');
      const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
      for (let left = 20 + Math.floor(random() * 200); left > 0 && !this.#isOver; left--) {
        const client = this.#client(name);
        const life = this.#lives.at(-1);
        child.stdin?.write(`${this.#alert(client)}\n`);
        // Killed with its request on the way: nobody knows whether that was taken.
        if (left === 1) break;
        const { value } = (await answers.next()) as { readonly value?: string };
        const isTaken = value?.startsWith('2');
        if (isTaken === true && life !== undefined && life === this.#lives.at(-1))
          this.#taken[name].push({ client, life });
        await sleep(random() * 12);
      }
      this.#happened(`sender ${name} SIGKILL`);
      child.kill('SIGKILL');
      await ended(child);
    }
  }

  async #writeFile(): Promise<void> {
    const random = randomOf(this.#seed + 2);
    while (!this.#isOver) {
      const some = Array.from({ length: 1 + Math.floor(random() * 8) }, () => this.#client('file'));
      const lines = some.map((client) => this.#alert(client));
      this.#twice = lines.slice(0, 1);
      const text = lines.map((line) => `${line}\n`).join('');
      // In two pieces, as of a writer that is held up in the middle of a line.
      const cut = random() < 0.7 ? Math.floor(random() * text.length) : text.length;
      appendFileSync(this.#log, text.slice(0, cut));
      if (cut < text.length) {
        await sleep(random() * 250);
        appendFileSync(this.#log, text.slice(cut));
      }
      for (const client of some) this.#always.add(client);
      await sleep(random() * 40);
      if (random() < 0.06) this.#rotate(random() < 0.5);
    }
  }

  #rotate(isCopied: boolean): void {
    this.#happened(isCopied ? 'copytruncate' : 'rotation');
    const rotated = `${this.#log}.${++this.#rotations}`;
    if (isCopied) {
      copyFileSync(this.#log, rotated);
      truncateSync(this.#log);
    } else {
      renameSync(this.#log, rotated);
      writeFileSync(this.#log, '');
    }
  }

  async #writeJournal(): Promise<void> {
    const random = randomOf(this.#seed + 3);
    while (!this.#isOver) {
      const some = Array.from({ length: 1 + Math.floor(random() * 10) }, () => this.#client('journal'));
      append(
        this.#journal,
        [...some.map((client) => this.#alert(client)), ...this.#twice].map((text) =>
          journalEntry('', { MESSAGE: text }),
        ),
      );
      for (const client of some) this.#always.add(client);
      await sleep(150 + random() * 250);
    }
  }

  async #feedFalco(): Promise<void> {
    const random = randomOf(this.#seed + 4);
    const script = fileURLToPath(new URL('../sources/grpc/serve-falco.ts', import.meta.url));
    while (!this.#isOver) {
      const child = spawn(process.execPath, [script, this.#falcoSocket], { stdio: ['pipe', 'pipe', 'inherit'] });
      this.#edge.lab.onClose(() => child.kill('SIGKILL'));
      const falco: Falco = { child, queued: [] };
      this.#falcos.push(falco);
      for (let left = 30 + Math.floor(random() * 250); left > 0 && !this.#isOver; left--) {
        const client = this.#client('grpc');
        falco.queued.push(client);
        child.stdin.write(`${this.#message(client).toString('base64')}\n`);
        await sleep(random() * 15);
      }
      if (this.#isOver) return;
      this.#happened('Falco SIGKILL');
      child.kill('SIGKILL');
      await ended(child);
    }
  }

  /** An address of its own for each alert. */
  #client(way: string): string {
    const n = this.#sentAt.size;
    const client = `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
    this.#sentAt.set(client, Date.now());
    this.#sent[way] = (this.#sent[way] ?? new Set()).add(client);
    return client;
  }

  /** The host's own address is that of the lab. */
  #alert(client: string): string {
    return canary(client, { hostname: 'edge' }).replaceAll('203.0.113.10', '198.51.100.1');
  }

  #message(client: string): Buffer {
    const {
      output_fields: fields,
      time,
      ...rest
    } = JSON.parse(this.#alert(client)) as Record<string, string> & {
      readonly output_fields: Readonly<Record<string, unknown>>;
      readonly time: string;
    };
    const texts = Object.entries(fields).map(([key, value]) => [key, String(value)]);
    const seconds = Math.floor(Date.parse(time) / 1000);
    const nanos = (Date.parse(time) % 1000) * 1_000_000;
    return encodeAlert({
      ...rest,
      priority: 'WARNING',
      time: { seconds, nanos },
      output_fields: Object.fromEntries(texts),
    });
  }

  #happened(what: string): void {
    this.#events[what] = (this.#events[what] ?? 0) + 1;
  }

  // --- what must hold -----------------------------------------------------------------------------------------------

  #promised(): Set<string> {
    const promised = new Set(this.#always);
    for (const name of httpNames) {
      for (const life of this.#lives) {
        const taken = this.#taken[name].filter((each) => each.life === life).map(({ client }) => client);
        const known = life.decided.get(name) ?? new Set();
        const last = life.endedInOrder ? taken.length - 1 : taken.findLastIndex((client) => known.has(client));
        for (const client of taken.slice(0, last + 1)) promised.add(client);
      }
    }
    for (const falco of this.#falcos) {
      for (const life of this.#lives) {
        const known = life.decided.get(`grpc:unix://${this.#falcoSocket}`) ?? new Set();
        const first = falco.queued.findIndex((client) => known.has(client));
        const last = falco.queued.findLastIndex((client) => known.has(client));
        if (first >= 0) for (const client of falco.queued.slice(first, last + 1)) promised.add(client);
      }
    }
    return promised;
  }

  async #finish(): Promise<void> {
    let held = heldIn(this.#edge.lab.pinDir);
    const lost = (): string[] => [...this.#promised()].filter((client) => !held.has(client));
    // Falco's queue is asked for again after a while; the journal is read anew at each start.
    await until(
      'all that was promised',
      async () => {
        held = heldIn(this.#edge.lab.pinDir);
        await sleep(100);
        return lost().length === 0;
      },
      20_000,
    ).catch(() => undefined);
    const life = this.#lives.at(-1);
    if (life !== undefined) await this.#end(life, 'SIGTERM');
    // The next start does it by itself: what a daemon had in the maps alone when it was killed is written down.
    this.#edge.must(['reconcile']);
    held = heldIn(this.#edge.lab.pinDir);
    for (const client of lost()) this.#failures.push(`lost: ${client}, ${this.#waysOf(client)}`);
    for (const client of held.keys()) if (!this.#sentAt.has(client)) this.#failures.push(`nobody accused ${client}`);
    this.#failures.push(...differences(this.#edge));
    this.#compareLedger(held);
  }

  #waysOf(client: string): string {
    return Object.entries(this.#sent)
      .filter(([, clients]) => clients.has(client))
      .map(([way]) => way)
      .join(', ');
  }

  /** One claim each, begun with the first of its alerts, and a history that says so. */
  #compareLedger(held: ReturnType<typeof heldIn>): void {
    const ledger = Ledger.open(this.#edge.stateDir, { service: { uid: 0, gid: 0 }, create: false });
    try {
      const made = new Map<string, number[]>();
      for (const { action, target, at } of ledger.history()) {
        const name = target === null ? '' : formatPrefix(target);
        if (action === 'made' || action === 'adopted') made.set(name, [...(made.get(name) ?? []), ledger.toWall(at)]);
        else if (action !== 'extended' && action !== 'reconciled') this.#failures.push(`history: ${action} ${name}`);
      }
      const owners = new Map<string, string[]>();
      const begun = new Map<string, number>();
      for (const { target, owner, begun: at, dropEnd } of ledger.claims({ state: 'live' })) {
        const name = formatPrefix(target);
        owners.set(name, [...(owners.get(name) ?? []), owner]);
        begun.set(name, Math.min(begun.get(name) ?? Number.POSITIVE_INFINITY, ledger.toWall(at)));
        const sent = this.#sentAt.get(name) ?? Number.POSITIVE_INFINITY;
        const lasts = (ledger.toWall(dropEnd) - sent) / 1000;
        if (lasts < policySeconds - 1 || lasts > policySeconds + (Date.now() - sent) / 1000) {
          this.#failures.push(`${name}: lasts for ${lasts} s after its alert`);
        }
      }
      for (const [name, at] of begun) {
        const sent = this.#sentAt.get(name) ?? Number.POSITIVE_INFINITY;
        const first = Math.min(...(made.get(name) ?? []));
        if (at < sent - 5) this.#failures.push(`${name}: begun ${sent - at} ms before its alert`);
        if (Math.abs(first - at) > 100) this.#failures.push(`${name}: begun at ${at}, the history's first is ${first}`);
      }
      for (const name of held.keys()) {
        const claimed = (owners.get(name) ?? []).toSorted().join(', ');
        const times = made.get(name)?.length ?? 0;
        // Killed between map and ledger: what the maps have beyond the ledger is found at the next start, the block itself, or the
        // seconds that an alert which came again has added to it.
        const isOne = /^policy:(adopted|canary-port)$/.test(claimed) && times === 1;
        const isAdoptedToo = claimed === 'policy:adopted, policy:canary-port' && times === 2;
        if (isAdoptedToo) this.#happened('claim adopted, and made by its alert');
        if (!isOne && !isAdoptedToo)
          this.#failures.push(`${name}: claimed by ${claimed}, ${times} times in the history`);
      }
    } finally {
      ledger.close();
    }
  }
}

/** A host of its own, for so many seconds. */
export async function chaos(seconds: number, seed: number): Promise<ChaosResult> {
  const config = 'automatic: enforce\nhost_aliases: [edge]\nguard: { allow_private: true }\n';
  const edge = openEdge({ config, sizes: [65_536, 1_024] });
  try {
    edge.attach();
    return await new Chaos(edge, seed).run(seconds);
  } finally {
    edge.purge();
    await edge.lab.close();
  }
}

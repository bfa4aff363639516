/**
 * The soak: hands, alerts, kills, reboots of the pins, clock steps and disk faults at random, with a flood on the wire, against
 * a model of what was acknowledged. It ends with 0 when nothing was lost (an acknowledged live block is in maps and ledger),
 * leaked (none of its packets arrived while it lived, but between a purge and the attach after it), or returned (what was
 * unblocked with exit 0 is not enforced).
 *
 * SOAK_SECONDS (3600), SOAK_SEED (of the time): the same seed gives the same actions, at moments that the scheduler chooses.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { faults } from '../../src/fault.ts';
import { canary } from '../../test/daemon/double.ts';
import { ended, type Lab, until, withLab } from '../../test/kernel/lab.ts';
import * as model from './model.ts';

const root = join(import.meta.dirname, '../..');
const uplink = 'up0';
const own = '203.0.113.10';
const innocent = '10.98.0.1';
const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'] as const;

/** In the order of arrivals.c's slots. */
const targets: readonly string[] = [
  ...Array.from({ length: 60 }, (_, i) => `10.99.0.${i}`),
  ...Array.from({ length: 60 }, (_, i) => (i === 0 ? '2001:db8:99::' : `2001:db8:99::${i.toString(16)}`)),
  '10.97.0.0/24',
];
const innocentSlot = targets.length;

/** What the built-in policy does with the canary rule. */
const policyMs = 3_600_000;
/** An alert that was answered this long ago is in the maps, or never will be. */
const alertMs = 3_000;

interface State {
  claims: model.Claims;
  /** Dropped without a pause since then; null: not, or nobody knows. */
  since: number | null;
  lastAlert: number;
}

interface Done {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly begun: number;
  readonly ended: number;
}

export interface SoakResult {
  readonly seed: number;
  readonly seconds: number;
  readonly packetsPerSecond: number;
  readonly counts: Readonly<Record<string, number>>;
  /** One sentence each. */
  readonly failures: readonly string[];
}

class Soak {
  readonly #lab: Lab;
  readonly #random: () => number;
  readonly #edge: string;
  readonly #outside: string;
  readonly #command: string;
  readonly #stateFs: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #states = new Map<string, State>();
  readonly #actions: string[] = [];
  readonly #began = Date.now();
  readonly counts: Record<string, number> = {};
  readonly failures: string[] = [];
  #daemon: ChildProcess | null = null;
  #arrivals: ChildProcess | null = null;
  #answers: ((line: string) => void)[] = [];
  /** A disk fault or a purge goes on: a hand may fail. */
  #isFaulty = false;
  #lostByReceiver = 0;

  constructor(lab: Lab, seed: number) {
    this.#lab = lab;
    this.#random = model.seeded(seed);
    this.#edge = lab.namespace('e');
    this.#outside = lab.namespace('x');
    for (const target of targets) this.#states.set(target, { claims: model.noClaims, since: null, lastAlert: 0 });
    // A copy: an hour is long, and the tree may be built anew meanwhile.
    const tree = join(lab.directory, 'tree');
    for (const part of ['bin', 'dist']) cpSync(join(root, part), join(tree, part), { recursive: true });
    for (const part of ['.node', 'node_modules']) symlinkSync(join(root, part), join(tree, part));
    this.#command = join(tree, 'bin/falcodrop');
    this.#stateFs = join(lab.directory, 'state-fs');
    const config = join(lab.directory, 'falcodrop.yaml');
    writeFileSync(
      config,
      `automatic: enforce\nguard: {allow_private: true, protected: [${innocent}]}\nservice: {user: nobody, group: nogroup}\nhost_aliases: [edge]\n`,
    );
    this.#environment = {
      TZ: 'UTC',
      SSH_CONNECTION: '',
      FALCODROP_PIN_DIR: lab.pinDir,
      FALCODROP_STATE_DIR: join(this.#stateFs, 'state'),
      FALCODROP_CONFIG: config,
    };
  }

  /** The rate of the flood, packets a second. `betray` is called at every quiet point, for the test that this can fail. */
  async run(seconds: number, stepsBetween: number, betray: (pinDir: string) => void): Promise<number> {
    const lab = this.#lab;
    mkdirSync(this.#stateFs);
    lab.exec(null, 'mount', '-t', 'tmpfs', '-o', 'size=96m,mode=0755', 'tmpfs', this.#stateFs);
    lab.onClose(() => spawnSync('umount', ['-l', this.#stateFs]));
    lab.veth(
      { namespace: this.#edge, name: uplink, exact: true, addresses: [`${own}/24`] },
      { namespace: this.#outside, name: 'x0', exact: true },
    );
    for (const [name, source] of [
      ['flood', 'test/e2e/fixtures/flood.c'],
      ['arrivals', 'scripts/soak/arrivals.c'],
    ] as const) {
      lab.exec(null, 'cc', '-O2', '-Wall', '-Werror', '-o', join(lab.directory, name), join(root, source));
    }
    await this.#attach();
    this.#startArrivals();
    const flood = lab.spawn(this.#outside, ['nice', '-n', '10', join(lab.directory, 'flood'), 'x0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    flood.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await this.#startDaemon();
    // Most of what the flood sends is dropped most of the time: what arrives costs more than what is dropped.
    await this.#import();
    const deadline = Date.now() + seconds * 1000;
    for (let step = 1; Date.now() < deadline && this.failures.length === 0; step++) {
      await this.#step();
      if (this.failures.length > 0 || step % stepsBetween !== 0) continue;
      betray(lab.pinDir);
      await this.#quiet();
    }
    if (this.failures.length === 0) await this.#quiet();
    flood.kill('SIGTERM');
    await ended(flood);
    const { sent, seconds: flooded } = JSON.parse(said.trim().split('\n').at(-1) ?? '{}') as {
      sent: number;
      seconds: number;
    };
    await this.#stopDaemon('SIGTERM');
    this.counts['lost by the receiver’s socket'] = this.#lostByReceiver;
    return Math.round(sent / flooded);
  }

  lastActions(): readonly string[] {
    return this.#actions.slice(-40);
  }

  // --- what is done ----------------------------------------------------------------------------------------------------

  async #step(): Promise<void> {
    const dice = this.#random();
    if (dice < 0.08) await this.#reboot();
    else if (dice < 0.16) await this.#diskFault();
    else if (dice < 0.24) await this.#undo();
    else await this.#hands();
    await this.#checkWire();
  }

  /** Some at once, each on targets of its own; alerts and a kill of the daemon meanwhile. */
  async #hands(): Promise<void> {
    const free = this.#shuffled();
    const take = (count: number): string[] => free.splice(0, count);
    const work: Promise<unknown>[] = [];
    if (this.#random() < 0.2) {
      this.#killSoon();
    }
    for (let i = this.#below(4); i > 0; i--) work.push(this.#alert(this.#pick(targets.slice(0, 60))));
    for (let i = 1 + this.#below(3); i > 0; i--) {
      const dice = this.#random();
      if (dice < 0.55) work.push(this.#block(take(1 + this.#below(8))));
      else if (dice < 0.75) work.push(this.#unblock(take(1 + this.#below(5))));
      else if (dice < 0.85) work.push(this.#importHand(take(20)));
      else if (dice < 0.95) work.push(this.#act('reconcile', ['reconcile']));
      else work.push(this.#act('export', ['export']));
    }
    // A feed's set is one: alone among the hands, for it may touch every target.
    if (this.#random() < 0.15) {
      await Promise.all(work.splice(0));
      work.push(this.#import());
    }
    await Promise.all(work);
    await this.#startDaemon();
  }

  async #block(names: readonly string[]): Promise<void> {
    const dice = this.#random();
    const seconds = dice < 0.25 ? 4 + this.#below(6) : dice < 0.85 ? 120 + this.#below(7200) : null;
    const isReplace = this.#random() < 0.2;
    const isMonitor = !isReplace && this.#random() < 0.1;
    const length = seconds === null ? ['--forever'] : ['--for', `${seconds}s`];
    const more = [...(isReplace ? ['--replace'] : []), ...(isMonitor ? ['--monitor'] : [])];
    if (isReplace) this.#doubt(names);
    const { status, begun, ended: end } = await this.#act('block', ['block', ...names, ...length, ...more]);
    if (isMonitor) return;
    const at = (from: number): number => (seconds === null ? Number.POSITIVE_INFINITY : from + seconds * 1000);
    const range = { earliest: at(begun), latest: at(end) };
    const change = isReplace ? model.replaced : model.blocked;
    this.#change(names, (claims) => change(claims, 'hand', range, status === 0), end);
  }

  async #unblock(names: readonly string[]): Promise<void> {
    const isAll = this.#random() < 0.5;
    const owed = names.filter((name) => {
      const { hand, policy } = this.#stateOf(name).claims;
      return Math.max(hand.earliest, policy.earliest) > Date.now() + 10_000;
    });
    this.#doubt(names);
    // One at a time: with several the worst status stands for all.
    for (const name of names) {
      const args = ['unblock', name, ...(isAll ? ['--all-claims'] : [])];
      const { status, begun, ended: end, stderr } = await this.#act('unblock', args, [4]);
      if (status === 4 && owed.includes(name))
        this.#fail(`lost: ${name} was acknowledged and "not blocked": ${stderr}`);
      const whose = isAll ? model.owners : (['hand', 'policy'] as const);
      const state = this.#stateOf(name);
      const recent = begun - state.lastAlert < alertMs;
      this.#change(
        [name],
        (claims) => {
          const after = model.withdrawn(claims, whose, status === 0);
          if (!recent || status !== 0) return after;
          const late = { earliest: 0, latest: state.lastAlert + policyMs + 10_000 };
          return { ...after, policy: late, hand: late };
        },
        end,
      );
    }
  }

  /** A feed's set becomes the file. */
  async #import(): Promise<void> {
    const chosen = targets.filter(() => this.#random() < 0.6);
    const file = join(this.#lab.directory, 'feed.txt');
    writeFileSync(file, `${chosen.join('\n')}\n`);
    const rest = targets.filter((name) => !chosen.includes(name));
    this.#doubt(rest);
    const args = ['import', file, '--feed', 'soak', '--replace', '--yes'];
    const { status, ended: end } = await this.#act('import', args);
    const range = { earliest: Number.POSITIVE_INFINITY, latest: Number.POSITIVE_INFINITY };
    this.#change(chosen, (claims) => model.blocked(claims, 'feed', range, status === 0), end);
    this.#change(rest, (claims) => model.withdrawn(claims, ['feed'], status === 0), end);
  }

  /** An end that would move by less than a hundredth is not moved. */
  async #importHand(names: readonly string[]): Promise<void> {
    const seconds = 600 + this.#below(600);
    const file = join(this.#lab.directory, `list-${this.counts.import ?? 0}-${this.#below(1e6)}.txt`);
    writeFileSync(file, `${names.join('\n')}\n`);
    const { status, begun, ended: end } = await this.#act('import', ['import', file, '--for', `${seconds}s`]);
    rmSync(file);
    const range = { earliest: begun + seconds * 985, latest: end + seconds * 1000 };
    this.#change(names, (claims) => model.blocked(claims, 'hand', range, status === 0), end);
  }

  async #undo(): Promise<void> {
    this.#doubt(targets);
    const { status, begun, ended: end } = await this.#act('undo', ['undo', '--since', '1d', '--yes']);
    for (const name of targets) {
      const isRecent = begun - this.#stateOf(name).lastAlert < alertMs;
      this.#change([name], (claims) => model.withdrawn(claims, ['policy'], status === 0 && !isRecent), end);
    }
  }

  /** Queued, not acknowledged: what of it is in the ledger at the next quiet point is. */
  async #alert(name: string): Promise<void> {
    const state = this.#stateOf(name);
    state.lastAlert = Date.now();
    const latest = Date.now() + policyMs + 10_000;
    this.#change([name], (claims) => model.blocked(claims, 'policy', { earliest: 0, latest }, false), Date.now());
    const curl = this.#lab.spawn(
      this.#edge,
      [
        ...(['curl', '-s', '-m', '5', '-o', '/dev/null', '-w', '%{http_code}', '--data-binary'] as const),
        canary(name, { hostname: 'edge' }),
        'http://127.0.0.1:2804/',
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    let said = '';
    curl.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await ended(curl);
    state.lastAlert = Date.now();
    this.#note(`alert ${name}: ${said}`);
    this.#count(said === '202' ? 'alert queued' : 'alert not taken');
  }

  /** The pins go, the ledger stays; now and then the ledger believes that the host was down, and the clock set wrong. */
  async #reboot(): Promise<void> {
    const isWhole = this.#random() < 0.6;
    if (isWhole) await this.#stopDaemon('SIGKILL');
    this.#isFaulty = true;
    this.#doubt(targets);
    const others = isWhole ? [] : [this.#block(this.#shuffled().slice(0, 3))];
    const begun = Date.now();
    await this.#act('purge', ['detach', '--all', '--purge', '--yes']);
    if (isWhole && this.#random() < 0.5) this.#forgeBoot();
    await this.#attach();
    await Promise.all(others);
    this.#isFaulty = false;
    this.#doubt(targets);
    this.#change(targets, (claims) => claims, Date.now());
    await this.#checkFirstPacket(begun);
    await this.#startDaemon();
    this.#count('reboot of the pins');
  }

  /** With the daemon dead: the stored anchor is of another boot, and the clock then stood as it stands, or ten years on. */
  #forgeBoot(): void {
    const aheadMs = this.#random() < 0.5 ? 0 : 10 * 365 * 86_400_000;
    const script = `
      const Database = require(${JSON.stringify(join(root, 'node_modules/better-sqlite3'))});
      const database = new Database(${JSON.stringify(join(this.#stateFs, 'state/ledger.db'))}, { fileMustExist: true });
      database.prepare('UPDATE meta SET boot_id = ?, wall = wall + ?').run('00000000-0000-4000-8000-${Date.now().toString(16).padStart(12, '0').slice(-12)}', ${aheadMs});
      database.close();`;
    const { status, stderr } = this.#lab.run(null, 'setpriv', ...nobody, process.execPath, '-e', script);
    this.#note(`another boot, clock ${aheadMs} ms ahead then: ${status} ${stderr}`);
    if (status !== 0) return;
    this.#count(aheadMs === 0 ? 'ledger of another boot' : 'clock stepped back ten years over a boot');
    // What has passed since the ledger was last written is not counted then: ends may come later by it, never earlier.
    const longer = ({ earliest, latest }: model.Range) => ({ earliest, latest: latest === 0 ? 0 : latest + 60_000 });
    for (const state of this.#states.values()) {
      const { hand, policy, feed, adopted } = state.claims;
      state.claims = { hand: longer(hand), policy: longer(policy), feed: longer(feed), adopted: longer(adopted) };
    }
  }

  async #diskFault(): Promise<void> {
    const kind = this.#pick(['full', 'read-only', 'unreachable'] as const);
    const directory = join(this.#stateFs, 'state');
    const fill = join(this.#stateFs, 'fill');
    const ledger = this.#lab.exec(null, 'stat', '-c', '%a', directory).trim();
    if (kind === 'read-only') await this.#stopDaemon('SIGKILL');
    this.#isFaulty = true;
    if (kind === 'full') {
      const { bavail, bsize } = statfsSync(this.#stateFs);
      this.#lab.run(null, 'fallocate', '-l', `${bavail * bsize}`, fill);
    } else if (kind === 'read-only') this.#lab.exec(null, 'mount', '-o', 'remount,ro', this.#stateFs);
    else this.#lab.exec(null, 'chmod', '0', directory);
    this.#note(`disk ${kind}`);
    try {
      await Promise.all([
        this.#block(this.#shuffled().slice(0, 3)),
        ...(kind === 'read-only' ? [] : [this.#alert(this.#pick(targets.slice(0, 60)))]),
      ]);
      await this.#unblock(this.#shuffled().slice(0, 2));
    } finally {
      if (kind === 'full') rmSync(fill, { force: true });
      else if (kind === 'read-only') this.#lab.exec(null, 'mount', '-o', 'remount,rw', this.#stateFs);
      else this.#lab.exec(null, 'chmod', ledger, directory);
    }
    this.#note('disk mended');
    this.#isFaulty = false;
    this.#count(`disk ${kind}`);
    await this.#startDaemon();
  }

  async #attach(): Promise<void> {
    const args = ['attach', uplink, '--yes', '--addresses', '4096', '--prefixes', '1024'];
    for (let attempt = 0; attempt < 10; attempt++) {
      const { status, stderr } = await this.#act('attach', args, [1]);
      if (status !== 0) continue;
      // Said, and no reason to leave the interface open: its child was killed.
      if (stderr.includes('may be missing')) await this.#until0(['reconcile']);
      return;
    }
    this.#fail('attach failed ten times');
  }

  async #startDaemon(): Promise<void> {
    if (this.#daemon !== null && this.#daemon.exitCode === null && this.#daemon.signalCode === null) return;
    // Some end themselves at one of the daemon's fault points, or have a child that reconciles do so.
    const own = Object.keys(faults).filter((name) => /^(automatic|settle|reap|reconcile)\./.test(name));
    const point = this.#random() < 0.25 ? own[this.#below(own.length)] : undefined;
    const child = this.#lab.spawn(this.#edge, ['setpriv', ...nobody, this.#command, 'run'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...this.#environment, ...(point === undefined ? {} : { FAULT: point }) },
    });
    child.once('exit', (_, signal) => {
      if (signal === 'SIGKILL' && point !== undefined) this.#count('daemon with a fault point killed');
    });
    this.#daemon = child;
    let isReady = false;
    const lines: string[] = [];
    if (child.stderr === null) throw new Error('no pipe');
    createInterface(child.stderr).on('line', (line) => {
      lines.push(line.slice(0, 300));
      if (lines.length > 20) lines.shift();
      if (line.includes('"msg":"ready"')) isReady = true;
    });
    await until('the daemon', () => isReady || child.exitCode !== null || child.signalCode !== null, 60_000);
    if (!isReady && child.signalCode === null) this.#fail(`the daemon does not start: ${lines.join('\n')}`);
    this.#note(`daemon started${point === undefined ? '' : ` with ${point}`}`);
  }

  async #stopDaemon(signal: NodeJS.Signals): Promise<void> {
    const child = this.#daemon;
    if (child === null) return;
    child.kill(signal);
    await ended(child);
    this.#note(`daemon ${signal}`);
    this.#count(`daemon ${signal}`);
  }

  #killSoon(): void {
    const child = this.#daemon;
    setTimeout(() => {
      if (child?.kill('SIGKILL') !== true) return;
      this.#note('daemon SIGKILL');
      this.#count('daemon SIGKILL');
    }, this.#below(600));
  }

  /** Runs a hand; some are killed, by us at a random moment or by themselves at one of their fault points. */
  async #act(verb: string, args: readonly string[], accepted: readonly number[] = []): Promise<Done> {
    const dice = this.#random();
    const own = Object.keys(faults);
    const point = dice < 0.12 ? own[this.#below(own.length)] : undefined;
    const killAfter = dice > 0.85 ? 20 + this.#below(500) : null;
    const begun = Date.now();
    const child = this.#lab.spawn(this.#edge, [this.#command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...this.#environment, ...(point === undefined ? {} : { FAULT: point }) },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const timer = killAfter === null ? null : setTimeout(() => child.kill('SIGKILL'), killAfter);
    await ended(child);
    if (timer !== null) clearTimeout(timer);
    const status = child.exitCode;
    const done = { status, stdout, stderr, begun, ended: Date.now() };
    const how = status ?? `killed${point === undefined ? '' : ` at ${point}`}`;
    this.#note(`${args.join(' ').slice(0, 200)} → ${how}${status === 0 ? '' : ` ${stderr.trim().slice(0, 300)}`}`);
    this.#count(status === null ? `${verb} killed` : status === 0 ? verb : `${verb} failed`);
    if (status !== null && status !== 0 && !accepted.includes(status) && !this.#isFaulty) {
      // A child of a killed reconcile, or the lock, is a reason; what is wrong with the words is not.
      this.#fail(`${args.join(' ')} ended with ${status}: ${stderr.trim()}`);
    }
    return done;
  }

  // --- what must hold --------------------------------------------------------------------------------------------------

  /** Nothing goes on but the daemon and the flood. */
  async #quiet(): Promise<void> {
    await this.#startDaemon();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const held = await this.#dropped();
    this.#requireKept('the maps', held);
    await this.#until0(['reconcile']);
    const after = await this.#dropped();
    this.#requireKept('the maps, reconciled', after);
    const claimed = new Map<string, number>();
    for (const line of (await this.#until0(['export'])).stdout.trim().split('\n')) {
      if (line === '') continue;
      const { target, owner, mode, ends_at } = JSON.parse(line) as Record<string, string | null>;
      if (mode !== 'enforce' || target == null) continue;
      const end = ends_at == null ? Number.POSITIVE_INFINITY : Date.parse(ends_at);
      claimed.set(target, Math.max(end, claimed.get(target) ?? 0));
      if (owner?.startsWith('policy:') !== true) continue;
      // It is written down: acknowledged from here on.
      const state = this.#states.get(target);
      if (state === undefined) continue;
      const { earliest, latest } = state.claims.policy;
      if (latest >= end - 1000) {
        state.claims = { ...state.claims, policy: { earliest: Math.max(earliest, end - 1000), latest } };
      }
    }
    this.#requireKept('the ledger', new Set(claimed.keys()));
    const now = Date.now();
    const passing = targets.filter((name) => model.mustPass(this.#stateOf(name).claims, now));
    for (const name of passing) {
      if (after.has(name)) this.#fail(`returned: ${name} is in the maps`);
      else if ((claimed.get(name) ?? 0) > now) this.#fail(`returned: ${name} is in the ledger`);
    }
    await this.#checkWire();
    await this.#requirePassing(passing, now);
    this.#count('quiet point');
    this.#count(
      'targets that had to drop, summed',
      targets.filter((name) => model.mustDrop(this.#stateOf(name).claims, now)).length,
    );
    this.#count('targets that had to pass, summed', passing.length);
  }

  #requireKept(where: string, held: ReadonlySet<string>): void {
    const now = Date.now();
    for (const name of targets) {
      const { claims } = this.#stateOf(name);
      if (model.mustDrop(claims, now) && !held.has(name)) {
        this.#fail(`lost: ${name} is not in ${where}, acknowledged: ${JSON.stringify(claims)}`);
      }
    }
  }

  async #dropped(): Promise<Set<string>> {
    const { stdout } = await this.#until0(['list', '--json']);
    const entries = stdout
      .trim()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as { target: string; state: string });
    return new Set(entries.filter(({ state }) => state === 'enforce').map(({ target }) => target));
  }

  /** A hand may be killed by the dice; then again. */
  async #until0(args: readonly string[]): Promise<Done> {
    for (let attempt = 0; attempt < 10; attempt++) {
      const done = await this.#act(args[0] ?? '', args);
      if (done.status === 0) return done;
    }
    throw new Error(`${args.join(' ')} did not succeed in ten attempts`);
  }

  /** No packet of what has been dropped without a pause came after it was. */
  async #checkWire(): Promise<void> {
    const last = await this.#lastArrivals();
    const now = Date.now();
    for (const [slot, name] of targets.entries()) {
      const state = this.#stateOf(name);
      if (state.since === null) continue;
      const end = Math.max(...model.owners.map((owner) => state.claims[owner].earliest));
      const at = last[slot] ?? 0;
      if (at > state.since && at < end - model.marginMs) {
        this.#fail(`leaked: a packet of ${name} arrived ${at - state.since} ms after it was acknowledged`);
      }
      if (!model.mustDrop(state.claims, now)) state.since = null;
    }
  }

  /**
   * The interface was attached with all blocks in the maps: their last packets came within one turn of the flood, not one
   * after the other as a restoration went on.
   */
  async #checkFirstPacket(purged: number): Promise<void> {
    const last = await this.#lastArrivals();
    const times = targets.flatMap((name, slot) => (this.#stateOf(name).since === null ? [] : [last[slot] ?? 0]));
    const recent = times.filter((time) => time > purged);
    // A purge that was killed at once has let nothing through.
    if (recent.length < 2) return;
    const spread = Math.round(Math.max(...recent) - Math.min(...recent));
    this.counts['widest spread of last packets at an attach, ms'] = Math.max(
      spread,
      this.counts['widest spread of last packets at an attach, ms'] ?? 0,
    );
  }

  /** What nobody wants dropped arrives, and so does the innocent. */
  async #requirePassing(names: readonly string[], since: number): Promise<void> {
    const slots = [innocentSlot, ...names.map((name) => targets.indexOf(name))];
    let last = await this.#lastArrivals();
    const deadline = Date.now() + 10_000;
    while (slots.some((slot) => (last[slot] ?? 0) <= since) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      last = await this.#lastArrivals();
    }
    for (const slot of slots) {
      if ((last[slot] ?? 0) <= since) this.#fail(`returned: no packet of ${targets[slot] ?? innocent} arrives`);
    }
  }

  #startArrivals(): void {
    const child = this.#lab.spawn(this.#edge, [join(this.#lab.directory, 'arrivals'), uplink], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#arrivals = child;
    if (child.stdout === null) throw new Error('no pipe');
    createInterface(child.stdout).on('line', (line) => this.#answers.shift()?.(line));
  }

  async #lastArrivals(): Promise<readonly number[]> {
    const line = await new Promise<string>((resolve) => {
      this.#answers.push(resolve);
      this.#arrivals?.stdin?.write('\n');
    });
    const { lost, last } = JSON.parse(line) as { lost: number; last: number[] };
    this.#lostByReceiver = lost;
    return last;
  }

  // --- small words -----------------------------------------------------------------------------------------------------

  #stateOf(name: string): State {
    const state = this.#states.get(name);
    if (state === undefined) throw new Error(`${name} is no target`);
    return state;
  }

  #change(names: readonly string[], change: (claims: model.Claims) => model.Claims, at: number): void {
    for (const name of names) {
      const state = this.#stateOf(name);
      state.claims = change(state.claims);
      if (state.since === null && !this.#isFaulty && model.mustDrop(state.claims, at)) state.since = at;
    }
  }

  /** An action begins that may end their drops. */
  #doubt(names: readonly string[]): void {
    for (const name of names) this.#stateOf(name).since = null;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)] as T;
  }

  #shuffled(): string[] {
    return targets
      .map((name) => [this.#random(), name] as const)
      .sort(([a], [b]) => a - b)
      .map(([, name]) => name);
  }

  #note(text: string): void {
    this.#actions.push(`${((Date.now() - this.#began) / 1000).toFixed(3).padStart(9)} ${text}`);
    if (this.#actions.length > 1000) this.#actions.splice(0, 500);
  }

  #count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  #fail(what: string): void {
    this.#note(`FAILED ${what}`);
    this.failures.push(what);
  }
}

/** Root, and a lab of its own; nothing outside is touched. Failures print the last actions. */
export function soak(
  seconds: number,
  seed: number,
  {
    betray = () => undefined,
    isQuiet = false,
    stepsBetween = 6,
  }: {
    betray?: (pinDir: string) => void;
    /** Failures are wanted: nothing is printed. */
    isQuiet?: boolean;
    /** From one quiet point to the next. */
    stepsBetween?: number;
  } = {},
): Promise<SoakResult> {
  return withLab(async (lab) => {
    const run = new Soak(lab, seed);
    let packetsPerSecond = 0;
    try {
      packetsPerSecond = await run.run(seconds, stepsBetween, betray);
    } catch (error) {
      run.failures.push(String(error));
    }
    if (run.failures.length > 0 && !isQuiet) process.stdout.write(`${run.lastActions().join('\n')}\n`);
    return { seed, seconds, packetsPerSecond, counts: run.counts, failures: run.failures };
  });
}

if (import.meta.main) {
  const seconds = Number(process.env.SOAK_SECONDS ?? 3600);
  const seed = Number(process.env.SOAK_SEED ?? Date.now() % 1_000_000_007);
  process.stdout.write(`  SOAK  ${seconds} s, SOAK_SEED=${seed}\n`);
  const { packetsPerSecond, counts, failures } = await soak(seconds, seed);
  for (const [what, count] of Object.entries(counts).toSorted())
    process.stdout.write(`  ${String(count).padStart(7)} ${what}\n`);
  process.stdout.write(`  ${packetsPerSecond} packets/s on the wire\n`);
  for (const failure of failures) process.stdout.write(`${failure}\n`);
  const kinds = ['lost', 'leaked', 'returned'].map(
    (kind) => `${failures.filter((text) => text.startsWith(`${kind}:`)).length} ${kind}`,
  );
  process.stdout.write(`${kinds.join(', ')}; SOAK_SEED=${seed}\n`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

/**
 * The soak: hands, alerts, kills, reboots of the pins, steps of the wall clock, damage to the ledger, disk faults and strangers'
 * locks at random, with a flood on the wire, against a model of what was acknowledged. It ends with 0 when nothing was lost (an
 * acknowledged live block is in maps and ledger), leaked (none of its packets arrived while it lived, but between a purge and the
 * attach after it), or returned (what was unblocked with exit 0 is not enforced, and nothing lasts longer than it was asked for).
 *
 * SOAK_SECONDS (3600), SOAK_SEED (of the time): the same seed gives the same actions, at moments that the scheduler chooses.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, statfsSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parsePrefix } from '../../src/address/prefix.ts';
import { faults } from '../../src/fault.ts';
import { native } from '../../src/kernel/native.ts';
import { PinnedSet } from '../../src/kernel/set.ts';
import { canary } from '../../test/daemon/double.ts';
import { ended, type Lab, until, withLab } from '../../test/kernel/lab.ts';
import { type Damage, damages, flips, isOpen } from './damage.ts';
import * as model from './model.ts';
import { holdDatabase, holdDirectory, type Stranger } from './stranger.ts';
import { offsetsMs, WallClock } from './wall-clock.ts';
import { innocent, sources, Wire } from './wire.ts';

const root = join(import.meta.dirname, '../..');
const uplink = 'up0';
const own = '203.0.113.10';
const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'] as const;
/** Somebody of the service's group, without any capability. */
const member = ['--reuid=65533', '--regid=65533', '--groups=65534', '--inh-caps=-all', '--bounding-set=-all'] as const;

/** Enough for hands in one direction and the other, little enough to leave a core to them. */
const packetsPerSecond = 30_000;

/** Sources of the flood that alerts are about: the built-in policy's canary speaks of IPv4. */
const alertable = sources.slice(0, 60);
/** Not on the wire: a feed of many slices, and offenders of many slices. */
const bulk = Array.from({ length: 3_000 }, (_, i) => `100.70.${i >> 8}.${i & 255}`);
const offenders = Array.from({ length: 800 }, (_, i) => `10.96.${i >> 8}.${i & 255}`);
const everybody = [...sources, ...bulk, ...offenders];

/** What the built-in policy does with the canary rule. */
const policyMs = 3_600_000;
/**
 * An alert that was answered this long ago is in maps and ledger, or never will be: a ledger in trouble is tried every 5 s. Longer
 * where twice as much wants the CPUs as there are: whoever has the lock waits for one, too.
 */
const alertMs = (): number => 8_000 * Math.max(1, (loadavg()[0] ?? 0) / availableParallelism() / 2);
/** A reconciliation leaves the tombstones of so long ago (two seconds), and a hand takes its time. */
const tombstoneMs = 4_000;
/** A reconciliation's tolerance of a second, and rounding. */
const apartMs = 2_000;

interface State {
  claims: model.Claims;
  /** Dropped without a pause since then; null: not, or nobody knows. */
  since: number | null;
  /** An unblock could not be written down: in a need the maps let all of it pass, until a reconciliation brings back the rest. */
  isLoose: boolean;
  lastAlert: number;
  /** A policy's claim of it was there before the host was down for years, as the ledger has it: an undo may not reach as far. */
  isOld: boolean;
  /** When something that may withdraw one of its claims went on last. */
  lastWithdrawal: number;
  /** The last end that a claim may have had since the ledger's log was last written back whole. */
  past: number;
}

interface Done {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly begun: number;
  readonly ended: number;
}

interface Acting {
  /** Statuses that are no failure. */
  readonly accepted?: readonly number[];
  /** Whether somebody without any privilege but the service's group may be who does it. */
  readonly isRoots?: boolean;
  /** Killed more often than not. */
  readonly isDoomed?: boolean;
}

export interface SoakResult {
  readonly seed: number;
  readonly seconds: number;
  readonly packetsPerSecond: number;
  readonly counts: Readonly<Record<string, number>>;
  /** One sentence each. */
  readonly failures: readonly string[];
}

/** When something ends, as far as one can tell from outside; ms of the machine's clock. */
interface About {
  readonly earliest: number;
  readonly latest: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

class Soak {
  readonly #lab: Lab;
  readonly #random: () => number;
  readonly #seconds: number;
  readonly #edge: string;
  readonly #outside: string;
  readonly #tree: string;
  readonly #command: string;
  readonly #stateFs: string;
  readonly #stateDir: string;
  readonly #ledger: string;
  readonly #clock: WallClock;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #states = new Map<string, State>();
  readonly #actions: string[] = [];
  readonly #daemonLines: string[] = [];
  readonly #began = Date.now();
  /** How long each verb takes when it is left alone, ms: kills come within that. */
  readonly #usualMs = new Map<string, number>();
  readonly counts: Record<string, number> = {};
  readonly failures: string[] = [];
  #daemon: { readonly child: ChildProcess; readonly point: string | undefined } | null = null;
  #wire: Wire | null = null;
  #arrived: readonly number[] = [];
  /** A fault goes on: a hand may fail. */
  #mayFail = false;
  #faultBegan = 0;
  /** A purge goes on: packets may pass. */
  #isOpen = false;

  constructor(lab: Lab, seed: number, seconds: number) {
    this.#lab = lab;
    this.#random = model.seeded(seed);
    this.#seconds = seconds;
    this.#edge = lab.namespace('e');
    this.#outside = lab.namespace('x');
    for (const target of everybody) {
      this.#states.set(target, {
        claims: model.noClaims,
        since: null,
        isLoose: false,
        lastAlert: 0,
        isOld: false,
        lastWithdrawal: 0,
        past: 0,
      });
    }
    // A copy: an hour is long, and the tree may be built anew meanwhile.
    this.#tree = join(lab.directory, 'tree');
    for (const part of ['bin', 'dist']) cpSync(join(root, part), join(this.#tree, part), { recursive: true });
    for (const part of ['.node', 'node_modules']) symlinkSync(join(root, part), join(this.#tree, part));
    this.#command = join(this.#tree, 'bin/falcodrop');
    this.#stateFs = join(lab.directory, 'state-fs');
    this.#stateDir = join(this.#stateFs, 'state');
    this.#ledger = join(this.#stateDir, 'ledger.db');
    this.#clock = new WallClock(lab);
    const config = join(lab.directory, 'falcodrop.yaml');
    writeFileSync(
      config,
      `automatic: enforce\nguard: {allow_private: true, protected: [${innocent}]}\nservice: {user: nobody, group: nogroup}\nhost_aliases: [edge]\n`,
    );
    this.#environment = {
      ...this.#clock.environment,
      TZ: 'UTC',
      SSH_CONNECTION: '',
      FALCODROP_PIN_DIR: lab.pinDir,
      FALCODROP_STATE_DIR: this.#stateDir,
      FALCODROP_CONFIG: config,
    };
  }

  /**
   * The rate of the flood, packets a second. `betray` is called at every quiet point, for the test that this can fail; with
   * `isCalm` nothing but hands and alerts act.
   */
  async run({ stepsBetween, betray, isCalm }: Required<Terms>): Promise<number> {
    const lab = this.#lab;
    this.#mountState();
    lab.veth(
      { namespace: this.#edge, name: uplink, exact: true, addresses: [`${own}/24`] },
      { namespace: this.#outside, name: 'x0', exact: true },
    );
    await this.#attach();
    const ends = [
      { namespace: this.#outside, name: 'x0' },
      { namespace: this.#edge, name: uplink },
    ] as const;
    this.#wire = new Wire(lab, ...ends, packetsPerSecond);
    await this.#startDaemon();
    // Most of what the flood sends is dropped most of the time: what arrives costs more than what is dropped.
    await this.#import('soak', sources);
    if (!isCalm) await this.#import('bulk', bulk);
    const deadline = Date.now() + this.#seconds * 1000;
    let told = Date.now();
    for (let step = 1; Date.now() < deadline && this.failures.length === 0; step++) {
      await (isCalm ? this.#hands() : this.#step());
      await this.#checkWire();
      if (Date.now() - told > 60_000) {
        told = Date.now();
        const quiet = this.counts['quiet point'] ?? 0;
        process.stdout.write(`  ${Math.round((told - this.#began) / 1000)} s: ${step} steps, ${quiet} quiet points\n`);
      }
      if (this.failures.length > 0 || step % stepsBetween !== 0) continue;
      betray(lab.pinDir);
      await this.#quiet();
    }
    if (this.failures.length === 0) await this.#quiet();
    const { lost } = await this.#wire.arrivals();
    const rate = await this.#wire.stop();
    await this.#stopDaemon('SIGTERM');
    this.counts['lost by the receiver’s socket'] = lost;
    return rate;
  }

  /** To be filled at will; an hour's audit lines and ledgers moved aside fit in. On a loop device, whose syncs are real; else tmpfs. */
  #mountState(): void {
    mkdirSync(this.#stateFs);
    const image = join(this.#lab.directory, 'state.ext4');
    writeFileSync(image, '');
    truncateSync(image, 1 << 30);
    const made = this.#lab.run(null, 'mkfs.ext4', '-q', '-m', '0', image);
    const mounted = made.status === 0 && this.#lab.run(null, 'mount', '-o', 'loop', image, this.#stateFs).status === 0;
    if (!mounted) {
      this.#lab.exec(null, 'mount', '-t', 'tmpfs', '-o', 'size=1g,mode=0755', 'tmpfs', this.#stateFs);
      this.#count('state directory on tmpfs, for no loop device could be mounted');
    }
    this.#lab.onClose(() => spawnSync('umount', ['-l', this.#stateFs]));
  }

  /** The last of them, before that what was said of those whom failures are about, and the daemon's last words. */
  lastActions(): readonly string[] {
    const names = [...this.#states.keys()].filter((name) => this.failures.some((text) => text.includes(` ${name} `)));
    const older = this.#actions.slice(0, -60).filter((text) => names.some((name) => text.includes(` ${name} `)));
    return [...older, '…', ...this.#actions.slice(-60), 'and of the daemon:', ...this.#daemonLines];
  }

  // --- what is done ----------------------------------------------------------------------------------------------------

  async #step(): Promise<void> {
    const actions: readonly (readonly [share: number, act: () => Promise<void>])[] = [
      [8, () => this.#reboot()],
      [7, () => this.#diskFault()],
      [10, () => this.#damage()],
      [6, () => this.#strangers()],
      [8, () => this.#clockStep()],
      [5, () => this.#importKilled()],
      [5, () => this.#reconcileKilled()],
      [5, () => this.#undoKilled()],
      [5, async () => void (await this.#undo('1975-01-01T00:00:00Z', everybody))],
      [41, () => this.#hands()],
    ];
    let dice = this.#random() * actions.reduce((sum, [share]) => sum + share, 0);
    for (const [share, act] of actions) {
      dice -= share;
      if (dice < 0) return act();
    }
  }

  /** Some at once, each on targets of its own; alerts and a kill of the daemon meanwhile. */
  async #hands(): Promise<void> {
    const free = this.#shuffled();
    const take = (count: number): string[] => free.splice(0, count);
    const work: Promise<unknown>[] = [];
    if (this.#random() < 0.2) work.push(this.#killSoon());
    for (let i = this.#below(4); i > 0; i--) work.push(this.#alert(this.#pick(alertable)));
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
      work.push(this.#import('soak', sources));
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
      const { status, begun, ended: end, stderr } = await this.#act('unblock', args, { accepted: [4] });
      if (status === 4 && owed.includes(name))
        this.#fail(`lost: ${name} was acknowledged and "not blocked": ${stderr}`);
      const whose = isAll ? model.owners : (['hand', 'policy'] as const);
      const state = this.#stateOf(name);
      state.lastWithdrawal = end;
      // Killed after the maps were changed, too.
      if (status !== 0 && status !== 4) state.isLoose = true;
      const recent = begun - state.lastAlert < alertMs();
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

  /** A feed's set becomes the file: more than half of those names. */
  async #import(feed: string, names: readonly string[], acting: Acting = {}): Promise<Done> {
    const chosen: string[] = [];
    const rest: string[] = [];
    for (const name of names) (this.#random() < 0.6 ? chosen : rest).push(name);
    const file = join(this.#lab.directory, `${feed}.txt`);
    writeFileSync(file, `${chosen.join('\n')}\n`);
    this.#doubt(rest);
    const args = ['import', file, '--feed', feed, '--replace', '--yes'];
    const done = await this.#act(`import of ${feed}`, args, acting);
    const { status, ended: end } = done;
    const range = { earliest: Number.POSITIVE_INFINITY, latest: Number.POSITIVE_INFINITY };
    this.#change(chosen, (claims) => model.blocked(claims, 'feed', range, status === 0), end);
    this.#change(rest, (claims) => model.withdrawn(claims, ['feed'], status === 0), end);
    this.#withdrew(rest, end);
    return done;
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

  /** What policies did `since`. Of `names` it is known that their claims are of that time. */
  async #undo(since: string, names: readonly string[], acting: Acting = {}): Promise<Done> {
    this.#doubt(everybody);
    const done = await this.#act('undo', ['undo', '--since', since, '--yes'], acting);
    const { status, begun, ended: end } = done;
    const meant = new Set(names);
    for (const name of everybody) {
      const { lastAlert, isOld } = this.#stateOf(name);
      const isSure = status === 0 && meant.has(name) && !isOld && begun - lastAlert > alertMs();
      this.#change([name], (claims) => model.withdrawn(claims, ['policy'], isSure), end);
    }
    this.#withdrew(everybody, end);
    return done;
  }

  // --- much at once, killed between its slices ---------------------------------------------------------------------------

  /** Three that are cut short, each of another set, and one that is not. */
  async #importKilled(): Promise<void> {
    for (let i = 0; i < 3; i++) await this.#import('bulk', bulk, { isDoomed: true });
    await this.#again('import of bulk', () => this.#import('bulk', bulk));
    this.#count('import --replace of thousands, cut short');
  }

  /** Somebody takes entries out of the maps; reconciliations that are cut short bring back what they can, the last one all. */
  async #reconcileKilled(): Promise<void> {
    const gone = bulk.filter(() => this.#random() < 0.7);
    const set = new PinnedSet(this.#lab.pinDir);
    try {
      for (const name of gone) set.remove(parsePrefix(name));
    } finally {
      set.close();
    }
    this.#note(`${gone.length} entries are taken out of the maps`);
    const others = this.#block(this.#shuffled().slice(0, 3));
    for (let i = 0; i < 3; i++) await this.#act('reconcile of bulk', ['reconcile'], { isDoomed: true });
    await others;
    await this.#again('reconcile', () => this.#act('reconcile of bulk', ['reconcile']));
    this.#requireKept('the maps, reconciled', await this.#held());
    this.#count('reconcile of thousands, cut short');
  }

  /** The clock may be stepped between what is undone and the undo: its window is a time that has passed, not two of a clock. */
  async #undoKilled(): Promise<void> {
    await this.#startDaemon();
    const wall = this.#clock.now();
    const before = Date.now();
    for (const name of offenders) {
      this.#stateOf(name).lastAlert = before;
      this.#change([name], this.#alerted(before), before);
    }
    const file = join(this.#lab.directory, 'alerts.jsonl');
    writeFileSync(file, offenders.map((name) => `${canary(name, { hostname: 'edge', time: iso(wall) })}\n`).join(''));
    const script = `${process.execPath} ${join(root, 'scripts/soak/alerts.ts')} < ${file}`;
    const sender = this.#lab.spawn(this.#edge, ['sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    sender.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await ended(sender);
    const after = Date.now();
    for (const name of offenders) {
      this.#stateOf(name).lastAlert = after;
      this.#change([name], this.#alerted(after), after);
    }
    this.#note(`${said.trim()} of ${offenders.length} alerts queued`);
    await sleep(alertMs() + 200);
    if (this.#random() < 0.5) this.#stepClock();
    for (let i = 0; i < 3; i++) await this.#undo('15m', offenders, { isDoomed: true });
    await this.#again('undo', () => this.#undo('15m', offenders));
    this.#count('undo of hundreds, cut short');
    await this.#startDaemon();
  }

  async #again(what: string, attempt: () => Promise<Done>): Promise<void> {
    for (let i = 0; i < 10; i++) if ((await attempt()).status === 0) return;
    throw new Error(`${what} did not succeed in ten attempts`);
  }

  /** Queued, not acknowledged: what of it is in the ledger at the next quiet point is. */
  async #alert(name: string): Promise<string> {
    const state = this.#stateOf(name);
    const begun = Date.now();
    state.lastAlert = begun;
    this.#change([name], this.#alerted(begun), begun);
    const curl = this.#lab.spawn(
      this.#edge,
      [
        ...(['curl', '-s', '-m', '5', '-o', '/dev/null', '-w', '%{http_code}', '--data-binary'] as const),
        // Falco has the same clock.
        canary(name, { hostname: 'edge', time: iso(this.#clock.now()) }),
        'http://127.0.0.1:2804/',
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    let said = '';
    curl.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await ended(curl);
    const end = Date.now();
    state.lastAlert = end;
    this.#change([name], this.#alerted(end), end);
    this.#note(`alert ${name}: ${said}`);
    this.#count(said === '202' ? 'alert queued' : 'alert not taken');
    return said;
  }

  #alerted(at: number): (claims: model.Claims) => model.Claims {
    const range = { earliest: 0, latest: at + policyMs + 10_000 };
    return (claims) => model.blocked(claims, 'policy', range, false);
  }

  // --- what goes wrong -------------------------------------------------------------------------------------------------

  #beginFault(): void {
    this.#mayFail = true;
    this.#faultBegan = Date.now();
  }

  /** What alerts have brought about meanwhile may be on its way to the ledger. */
  #endFault(): void {
    if (!this.#mayFail) return;
    this.#mayFail = false;
    for (const state of this.#states.values()) {
      if (state.lastAlert > this.#faultBegan - alertMs()) state.lastAlert = Date.now();
    }
  }

  #stepClock(): void {
    const before = this.#clock.offsetMs;
    this.#clock.step(this.#pick(offsetsMs.filter((offset) => offset !== before)));
    this.#note(`the clock is stepped from ${before / 3_600_000} h off to ${this.#clock.offsetMs / 3_600_000} h`);
    this.#count(`clock stepped ${Math.abs(this.#clock.offsetMs - before) > 86_400_000 ? 'by years' : 'by hours'}`);
  }

  /** In the middle of what hands, alerts and the daemon do. */
  async #clockStep(): Promise<void> {
    await Promise.all([this.#hands(), sleep(this.#below(400)).then(() => this.#stepClock())]);
  }

  /** The pins go, the ledger stays; now and then the ledger believes that the host was down, and the clock is set meanwhile. */
  async #reboot(): Promise<void> {
    const isWhole = this.#random() < 0.7;
    if (isWhole) await this.#stopDaemon('SIGKILL');
    this.#isOpen = true;
    this.#beginFault();
    this.#pause(everybody);
    const others = isWhole ? [] : [this.#block(this.#shuffled().slice(0, 3))];
    const begun = Date.now();
    const { status } = await this.#act('purge', ['detach', '--all', '--purge', '--yes'], { isRoots: true });
    // With pins that are still there a forged boot would be no reboot.
    if (isWhole && status === 0 && this.#random() < 0.6) this.#forgeBoot();
    await this.#attach();
    await Promise.all(others);
    this.#isOpen = false;
    this.#endFault();
    this.#pause(everybody);
    this.#change(everybody, (claims) => claims, Date.now());
    await this.#checkFirstPacket(begun);
    await this.#startDaemon();
    this.#count('reboot of the pins');
  }

  /**
   * With the daemon dead: the stored anchor becomes another boot's, and the clock is stepped or not. What must come of it is what
   * operations.md says: time goes on from the last moment that was written by what the clock shows of it, and never backwards.
   */
  #forgeBoot(): void {
    const bootId = `00000000-0000-4000-8000-${Date.now().toString(16).padStart(12, '0').slice(-12)}`;
    const { status, stdout, stderr } = this.#sqlite(`
      const { boottime, wall } = database.prepare('SELECT boottime, wall FROM meta').get();
      database.prepare('UPDATE meta SET boot_id = ?').run('${bootId}');
      console.log(JSON.stringify({ boottime, wall }));`);
    if (status !== 0) {
      this.#note(`no other boot: ${stderr.trim().slice(0, 200)}`);
      return;
    }
    if (this.#random() < 0.7) this.#stepClock();
    const last = JSON.parse(stdout) as { boottime: number; wall: number };
    const boottimeMs = Number(native().clocks().boottimeNs / 1_000_000n);
    const laterAfter = (ms: number): number => {
      const downMs = last.wall < Date.UTC(2024, 0, 1) ? 0 : Math.max(0, this.#clock.now() + ms - last.wall);
      return boottimeMs + ms - last.boottime - downMs;
    };
    // Whoever opens it first does so within a minute.
    const later = [laterAfter(0), laterAfter(60_000)];
    const [least, most] = [Math.min(...later) - 100, Math.max(...later) + 100];
    this.#note(`another boot: ends come later by ${(least / 1000).toFixed(1)} to ${(most / 1000).toFixed(1)} s`);
    this.#count('ledger of another boot');
    for (const state of this.#states.values()) {
      state.claims = model.moved(state.claims, least, most);
      if (least < -60_000 && state.claims.policy.latest > Date.now()) state.isOld = true;
      state.past += Math.max(0, most);
    }
  }

  async #diskFault(): Promise<void> {
    const kind = this.#pick(['full', 'read-only', 'unreachable'] as const);
    const fill = join(this.#stateFs, 'fill');
    const { stdout: modeBefore } = this.#lab.run(null, 'stat', '-c', '%a', this.#stateDir);
    if (kind === 'read-only') await this.#stopDaemon('SIGKILL');
    this.#beginFault();
    if (kind === 'full') {
      const { bavail, bsize } = statfsSync(this.#stateFs);
      this.#lab.run(null, 'fallocate', '-l', `${bavail * bsize}`, fill);
    } else if (kind === 'read-only') {
      // A reconciliation whose daemon was killed may still write.
      await until('the disk to be read-only', () => this.#remount('ro'));
    } else this.#lab.exec(null, 'chmod', '0', this.#stateDir);
    this.#note(`disk ${kind}`);
    try {
      await Promise.all([
        this.#block(this.#shuffled().slice(0, 3)),
        ...(kind === 'read-only' ? [] : [this.#alert(this.#pick(alertable))]),
      ]);
      await this.#unblock(this.#shuffled().slice(0, 2));
    } finally {
      if (kind === 'full') rmSync(fill, { force: true });
      else if (kind === 'read-only') this.#remount('rw');
      else this.#lab.exec(null, 'chmod', modeBefore.trim(), this.#stateDir);
    }
    this.#note('disk mended');
    this.#endFault();
    this.#count(`disk ${kind}`);
    await this.#startDaemon();
  }

  #remount(how: 'ro' | 'rw'): boolean {
    return this.#lab.run(null, 'mount', '-o', `remount,${how}`, this.#stateFs).status === 0;
  }

  /** The ledger's files are harmed, between kills or under the hands of all; then a reconciliation must make it whole. */
  async #damage(): Promise<void> {
    const damage = this.#pick(damages);
    let sealed = 0;
    if (damage.harm === 'rolled back') {
      sealed = await this.#seal();
      if (this.failures.length > 0) return;
      await this.#hands();
    }
    const isLive = damage.isLive && this.#random() < 0.5;
    if (!isLive) {
      await this.#stopDaemon('SIGKILL');
      // A reconciliation whose daemon was killed goes on; what is harmed in use is another harm.
      await until('nobody to have the ledger open', () => !isOpen(this.#ledger));
    }
    this.#beginFault();
    let mend: (() => void) | null = null;
    const inflict = (): void => {
      mend = damage.inflict(this.#ledger, (limit) => this.#below(limit));
      this.#note(`ledger: ${damage.name}`);
      this.#harm(damage, sealed);
    };
    if (!isLive) inflict();
    const free = this.#shuffled();
    await Promise.all([
      this.#block(free.splice(0, 3)),
      this.#unblock(free.splice(0, 2)),
      ...(isLive ? [sleep(this.#below(400)).then(inflict), this.#alert(this.#pick(alertable))] : []),
    ]);
    await this.#startDaemon();
    if (this.#random() < 0.5) await this.#requireHeard();
    await this.#block(free.splice(0, 2));
    (mend as (() => void) | null)?.();
    await this.#until0(['reconcile']);
    await this.#requireWhole(damage);
    this.#harm(damage, sealed);
    this.#endFault();
    this.#count(`ledger${isLive ? ' in use' : ''}: ${damage.name}`);
    if (damage.harm === 'altered') this.#allowAltered(await this.#held());
    await this.#quiet();
  }

  #harm({ harm }: Damage, sealed: number): void {
    for (const state of this.#states.values()) {
      const { past, lastWithdrawal, isLoose } = state;
      // What the maps let pass for a while, in a need, was in the ledger alone.
      const claims =
        isLoose && (harm === 'rebuilt' || harm === 'altered') ? model.unsureOf(state.claims) : state.claims;
      const forEver = { earliest: 0, latest: Number.POSITIVE_INFINITY };
      if (harm === 'rebuilt') state.claims = model.rebuilt(claims);
      else if (harm === 'rolled back') {
        state.claims = model.rolledBack(claims, past, lastWithdrawal > sealed - tombstoneMs);
      } else if (harm === 'altered') {
        const someone = { ...forEver, earliest: model.earliestOf(claims) };
        state.claims = { hand: forEver, policy: forEver, feed: forEver, adopted: forEver, someone };
      }
      if (!model.mustDrop(state.claims, Date.now())) state.since = null;
    }
  }

  /** Nobody can tell that a claim was made a withdrawn one; but one byte is of one claim. */
  #allowAltered(held: ReadonlyMap<string, unknown>): void {
    const now = Date.now();
    const missing = everybody.filter((name) => model.mustDrop(this.#stateOf(name).claims, now) && !held.has(name));
    if (missing.length > flips)
      this.#fail(`lost: ${missing.length} for ${flips} bytes: ${missing.slice(0, 20).join()}`);
    for (const name of missing) {
      const state = this.#stateOf(name);
      state.since = null;
      state.claims = { ...state.claims, someone: { ...state.claims.someone, earliest: 0 } };
    }
    this.#count('lost to altered bytes that nobody can tell', missing.length);
  }

  /** Damage where nobody has looked yet is still there; then an operator takes the ledger away, with the daemon at it. */
  async #requireWhole({ harm, name }: Damage): Promise<void> {
    const { stdout } = this.#sqlite("console.log(database.pragma('integrity_check(1)', { simple: true }));");
    if (stdout.trim() === 'ok') return;
    if (harm === 'nothing') this.#fail(`lost: the ledger is damaged though ${name} harms nothing: ${stdout.trim()}`);
    this.#count('damage that nobody had met');
    this.#note(`the ledger is taken away: ${stdout.trim().slice(0, 200)}`);
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${this.#ledger}${suffix}`, { force: true });
    await this.#until0(['reconcile']);
  }

  /** All that was committed is in the database itself, and no tombstone is left but young ones. Returns when it began. */
  async #seal(): Promise<number> {
    const begun = Date.now();
    await this.#quiet();
    await until('the log to be written back', () => {
      const { stdout } = this.#sqlite("console.log(database.pragma('wal_checkpoint(TRUNCATE)')[0].busy);");
      return stdout.trim() === '0';
    });
    for (const state of this.#states.values()) state.past = model.latestOf(state.claims);
    return begun;
  }

  /** Somebody else holds a lock that hands need. They wait, or say so; and an attacker is dropped all the same. */
  async #strangers(): Promise<void> {
    const kind = this.#pick(['lock', 'ledger', 'state directory'] as const);
    const seconds = this.#seconds < 60 ? 1 : this.#pick([1, 3, kind === 'ledger' ? 7 : 12]);
    // With a free lock first: the daemon finds the set of a new attach when it takes the lock.
    if (seconds >= 3) await this.#requireHeard();
    // A hand waits for the lock for ten seconds, and for the ledger for five.
    if (seconds > 3) this.#beginFault();
    let stranger: Stranger;
    if (kind === 'lock') stranger = holdDirectory(this.#lab, join(this.#lab.pinDir, 'lock'), seconds);
    else if (kind === 'state directory') stranger = holdDirectory(this.#lab, this.#stateDir, seconds);
    else {
      const where = { file: this.#ledger, seconds, tree: this.#tree, as: nobody };
      stranger = holdDatabase(this.#lab, where);
    }
    await stranger.holds;
    this.#note(`somebody holds the ${kind} for ${seconds} s`);
    const hands = this.#hands();
    if (seconds >= 3) await this.#requireHeard();
    await Promise.all([hands, ended(stranger.child)]);
    this.#endFault();
    this.#count(`${kind} held by somebody else`);
  }

  // --- who does it -----------------------------------------------------------------------------------------------------

  async #attach(): Promise<void> {
    const args = ['attach', uplink, '--yes', '--addresses', '8192', '--prefixes', '1024'];
    for (let attempt = 0; attempt < 10; attempt++) {
      const { status, stderr } = await this.#act('attach', args, { accepted: [1], isRoots: true });
      if (status !== 0) continue;
      // Said, and no reason to leave the interface open: its child was killed.
      if (stderr.includes('may be missing')) await this.#until0(['reconcile']);
      return;
    }
    this.#fail('attach failed ten times');
  }

  /** Where none runs. Some end themselves at one of the daemon's fault points, or have a child that reconciles do so. */
  async #startDaemon({ isSound = false }: { isSound?: boolean } = {}): Promise<void> {
    if (this.#isDaemonAlive()) {
      if (!isSound || this.#daemon?.point === undefined) return;
      await this.#stopDaemon('SIGTERM');
    }
    const ours = Object.keys(faults).filter((name) => /^(automatic|settle|reap|reconcile)\./.test(name));
    const point = !isSound && this.#random() < 0.25 ? ours[this.#below(ours.length)] : undefined;
    const child = this.#lab.spawn(this.#edge, ['setpriv', ...nobody, this.#command, 'run'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...this.#environment, ...(point === undefined ? {} : { FAULT: point }) },
    });
    child.once('exit', (_, signal) => {
      if (signal === 'SIGKILL' && point !== undefined) this.#count('daemon with a fault point killed');
    });
    this.#daemon = { child, point };
    let isReady = false;
    if (child.stderr === null) throw new Error('no pipe');
    createInterface(child.stderr).on('line', (line) => {
      if (!line.includes('"msg":"decision"')) this.#daemonLines.push(line.slice(0, 400));
      if (this.#daemonLines.length > 40) this.#daemonLines.shift();
      if (line.includes('"msg":"ready"')) isReady = true;
    });
    await until('the daemon', () => isReady || child.exitCode !== null || child.signalCode !== null, 60_000);
    if (!isReady && child.signalCode === null) this.#fail('the daemon does not start');
    this.#note(`daemon started${point === undefined ? '' : ` with ${point}`}`);
  }

  #isDaemonAlive(): boolean {
    const child = this.#daemon?.child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  async #stopDaemon(signal: NodeJS.Signals): Promise<void> {
    const child = this.#daemon?.child;
    if (child === undefined) return;
    child.kill(signal);
    await ended(child);
    this.#note(`daemon ${signal}`);
    this.#count(`daemon ${signal}`);
  }

  async #killSoon(): Promise<void> {
    const child = this.#daemon?.child;
    await sleep(this.#below(600));
    if (child?.kill('SIGKILL') !== true) return;
    await ended(child);
    this.#note('daemon SIGKILL');
    this.#count('daemon SIGKILL');
  }

  /** Runs a hand; some are killed, by us at a random moment or by themselves at one of their fault points. */
  async #act(verb: string, args: readonly string[], acting: Acting = {}): Promise<Done> {
    const { accepted = [], isRoots = false, isDoomed = false } = acting;
    const who = !isRoots && this.#random() < 0.2 ? member : null;
    const dice = this.#random();
    const points = Object.keys(faults);
    const point = !isDoomed && dice < 0.12 ? points[this.#below(points.length)] : undefined;
    const usualMs = this.#usualMs.get(verb) ?? 500;
    const killAfter = dice > (isDoomed ? 0.2 : 0.85) ? Math.round(usualMs * (0.3 + 0.8 * this.#random())) : null;
    const begun = Date.now();
    const argv: [string, ...string[]] = who === null ? [this.#command] : ['setpriv', ...who, this.#command];
    argv.push(...args);
    const child = this.#lab.spawn(this.#edge, argv, {
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
    if (status === 0) this.#usualMs.set(verb, usualMs + 0.3 * (done.ended - begun - usualMs));
    const how = status ?? `killed${point === undefined ? ` after ${killAfter} ms` : ` at ${point}`}`;
    const said = status === 0 ? '' : ` ${stderr.trim().slice(0, 300)}`;
    this.#note(`${who === null ? '' : 'member: '}${args.join(' ').slice(0, 200)} → ${how}${said}`);
    this.#count(status === null ? `${verb} killed` : status === 0 ? verb : `${verb} failed`);
    if (who !== null && status === 0) this.#count('done by a member of the group');
    if (status !== null && status !== 0 && !accepted.includes(status) && !this.#mayFail) {
      // A child of a killed reconcile, or the lock, is a reason; what is wrong with the words is not.
      this.#fail(`${args.join(' ').slice(0, 300)} ended with ${status}: ${stderr.trim()}`);
    }
    return done;
  }

  /** JavaScript with the ledger as `database`, by the service's user. */
  #sqlite(script: string): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
    const whole = `
      const Database = require(${JSON.stringify(join(root, 'node_modules/better-sqlite3'))});
      const database = new Database(${JSON.stringify(this.#ledger)}, { fileMustExist: true });
      ${script}
      database.close();`;
    return this.#lab.run(null, 'setpriv', ...nobody, process.execPath, '-e', whole);
  }

  // --- what must hold --------------------------------------------------------------------------------------------------

  /** Nothing goes on but the daemon and the flood. What the ledger says then is compared, and known from there on. */
  async #quiet(): Promise<void> {
    await this.#startDaemon();
    await sleep(500);
    this.#requireKept('the maps', await this.#held(), true);
    await this.#until0(['reconcile']);
    const held = await this.#held();
    this.#requireKept('the maps, reconciled', held);
    const claimed = await this.#claimed();
    const now = Date.now();
    const passing: string[] = [];
    let dropping = 0;
    for (const name of everybody) {
      const state = this.#stateOf(name);
      const isRecent = now - state.lastAlert < alertMs() + 1_000;
      const ends = claimed.get(name) ?? {};
      state.isLoose = false;
      this.#compare(name, ends, held.get(name) ?? { earliest: 0, latest: 0 }, isRecent);
      if (model.mustDrop(state.claims, now)) dropping++;
      if (model.mustPass(state.claims, now)) passing.push(name);
      if (isRecent) continue;
      this.#change([name], () => model.observed(ends), now);
      if (ends.policy === undefined) state.isOld = false;
    }
    await this.#checkWire();
    const free = passing.filter((name) => sources.includes(name));
    await this.#requirePassing(free, now);
    this.#count('quiet point');
    this.#count('targets that had to drop, summed', dropping);
    this.#count('targets that had to pass, summed', passing.length);
    if (this.failures.length === 0 && this.#random() < 0.3) await this.#requireHeard();
  }

  /** Model, ledger and maps agree about a target, each end within what its reading allows. */
  #compare(
    name: string,
    ends: Readonly<Partial<Record<model.ModelOwner, number>>>,
    held: About,
    isRecent: boolean,
  ): void {
    const { claims } = this.#stateOf(name);
    const now = Date.now();
    const text = (end: number): string => (end === 0 ? 'never' : `${((end - now) / 1000).toFixed(1)} s`);
    const ledgerEnd = Math.max(0, ...Object.values(ends));
    const earliest = model.earliestOf(claims);
    const is = `maps ${text(held.latest)}, ledger ${JSON.stringify(ends)} = ${text(ledgerEnd)}, model ${JSON.stringify(claims)}, now ${now}`;
    if (earliest > now + model.marginMs && ledgerEnd < earliest - model.marginMs) {
      this.#fail(`lost: ${name} is to drop for ${text(earliest)}: ${is}`);
    }
    // Its claim may be on its way to the ledger.
    if (isRecent) return;
    for (const [owner, end] of Object.entries(ends)) {
      const { latest } = claims[owner as model.ModelOwner];
      if (end > latest + model.marginMs) this.#fail(`returned: ${name} has a claim (${owner}) for ${text(end)}: ${is}`);
    }
    if (Math.max(held.latest, ledgerEnd) < now + apartMs) return;
    if (held.latest < ledgerEnd - apartMs) this.#fail(`lost: the maps hold ${name} for too short a time: ${is}`);
    if (held.earliest > ledgerEnd + apartMs) this.#fail(`returned: the maps hold ${name} for too long: ${is}`);
  }

  /** `isBefore` a reconciliation. */
  #requireKept(where: string, held: ReadonlyMap<string, unknown>, isBefore = false): void {
    const now = Date.now();
    for (const name of everybody) {
      const { claims, isLoose } = this.#stateOf(name);
      if (model.mustDrop(claims, now) && !held.has(name) && !(isLoose && isBefore)) {
        this.#fail(`lost: ${name} is not in ${where}, acknowledged: ${JSON.stringify(claims)}`);
      }
    }
  }

  /** Until when the maps drop. */
  async #held(): Promise<Map<string, About>> {
    const { stdout, begun, ended: end } = await this.#until0(['list', '--json']);
    const held = new Map<string, About>();
    for (const line of stdout.split('\n')) {
      if (line === '') continue;
      const entry = JSON.parse(line) as { target: string; state: string; drop_seconds: number | null };
      if (entry.state !== 'enforce') continue;
      // Whole seconds, rounded up.
      const ms = entry.drop_seconds === null ? Number.POSITIVE_INFINITY : entry.drop_seconds * 1000;
      held.set(entry.target, { earliest: begun + ms - 1_000, latest: end + ms });
    }
    return held;
  }

  /** Until when the ledger wants drops, by owner, ms of the machine's clock. */
  async #claimed(): Promise<Map<string, Partial<Record<model.ModelOwner, number>>>> {
    const { stdout } = await this.#until0(['export']);
    const claimed = new Map<string, Partial<Record<model.ModelOwner, number>>>();
    for (const line of stdout.split('\n')) {
      if (line === '') continue;
      const claim = JSON.parse(line) as { target: string; owner: string; mode: string; ends_at: string | null };
      if (claim.mode !== 'enforce') continue;
      const end = claim.ends_at === null ? Number.POSITIVE_INFINITY : Date.parse(claim.ends_at) - this.#clock.offsetMs;
      const owner = claim.owner === 'feed:adopted' ? 'adopted' : (claim.owner.replace(/:.*/, '') as model.ModelOwner);
      const ends = claimed.get(claim.target) ?? {};
      ends[owner] = Math.max(end, ends[owner] ?? 0);
      claimed.set(claim.target, ends);
    }
    return claimed;
  }

  /** A hand may be killed by the dice; then again. */
  async #until0(args: readonly string[]): Promise<Done> {
    for (let attempt = 0; attempt < 10; attempt++) {
      const done = await this.#act(args[0] ?? '', args);
      if (done.status === 0) return done;
    }
    throw new Error(`${args.join(' ')} did not succeed in ten attempts`);
  }

  /**
   * A daemon that nothing is wrong with takes an alert about somebody new, and his packets are dropped. Of whom there is an entry
   * yet, though it has ended, may be so only when the lock is free.
   */
  async #requireHeard(): Promise<void> {
    await this.#startDaemon({ isSound: true });
    const name = this.#shuffled().find((each) => alertable.includes(each) && this.#dropsUntil(each) === null);
    if (name === undefined) return;
    const said = await this.#alert(name);
    const deadline = Date.now() + 15_000;
    // Among the hands there may be one that kills it.
    while (this.#isDaemonAlive() && (this.#dropsUntil(name) ?? 0n) === 0n) {
      if (Date.now() > deadline) {
        this.#fail(`deaf: an alert about ${name} was answered ${said}, and nothing came of it`);
        return;
      }
      await sleep(20);
    }
    this.#count('alert that was heard');
  }

  /** Of the maps; null where there is no entry. */
  #dropsUntil(name: string): bigint | null {
    const set = new PinnedSet(this.#lab.pinDir);
    try {
      return set.lookup(parsePrefix(name))?.dropUntil ?? null;
    } finally {
      set.close();
    }
  }

  /** No packet of what has been dropped without a pause came after it was. */
  async #checkWire(): Promise<void> {
    if (this.#wire === null) return;
    const { last, count } = await this.#wire.arrivals();
    const now = Date.now();
    for (const [slot, name] of sources.entries()) {
      const state = this.#stateOf(name);
      if (state.since === null) continue;
      const at = last[slot] ?? 0;
      if (at > state.since && at < model.earliestOf(state.claims) - model.marginMs) {
        const number = (count[slot] ?? 0) - (this.#arrived[slot] ?? 0);
        this.#fail(
          `leaked: packets of ${name} (${number} since the last look), the last ${(at - state.since).toFixed(1)} ms after it was acknowledged and ${(now - at).toFixed(0)} ms ago`,
        );
      }
      if (!model.mustDrop(state.claims, now)) state.since = null;
    }
    this.#arrived = count;
  }

  /**
   * The interface was attached with all blocks in the maps: their last packets came within one turn of the flood, not one
   * after the other as a restoration went on.
   */
  async #checkFirstPacket(purged: number): Promise<void> {
    if (this.#wire === null) return;
    const { last } = await this.#wire.arrivals();
    const times = sources.flatMap((name, slot) => (this.#stateOf(name).since === null ? [] : [last[slot] ?? 0]));
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
    const wire = this.#wire;
    if (wire === null) return;
    const slots = [sources.length, ...names.map((name) => sources.indexOf(name))];
    const deadline = Date.now() + 10_000;
    let { last } = await wire.arrivals();
    while (slots.some((slot) => (last[slot] ?? 0) <= since) && Date.now() < deadline) {
      await sleep(20);
      ({ last } = await wire.arrivals());
    }
    for (const slot of slots) {
      if ((last[slot] ?? 0) <= since) this.#fail(`returned: no packet of ${sources[slot] ?? innocent} arrives`);
    }
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
      // What had ended by then has begun anew.
      if (!model.mustDrop(state.claims, at)) state.since = null;
      state.claims = change(state.claims);
      state.past = Math.max(state.past, model.latestOf(state.claims));
      if (state.since === null && !state.isLoose && !this.#isOpen && model.mustDrop(state.claims, at)) state.since = at;
    }
  }

  /** Their packets may pass from here on. */
  #pause(names: readonly string[]): void {
    for (const name of names) this.#stateOf(name).since = null;
  }

  /** An action begins that may end their drops. */
  #doubt(names: readonly string[]): void {
    this.#pause(names);
    this.#withdrew(names, Date.now());
  }

  #withdrew(names: readonly string[], at: number): void {
    for (const name of names) this.#stateOf(name).lastWithdrawal = at;
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)] as T;
  }

  #shuffled(): string[] {
    return sources
      .map((name) => [this.#random(), name] as const)
      .sort(([a], [b]) => a - b)
      .map(([, name]) => name);
  }

  #note(text: string): void {
    this.#actions.push(`${((Date.now() - this.#began) / 1000).toFixed(3).padStart(9)} ${text}`);
    if (this.#actions.length > 1_000) this.#actions.splice(0, 500);
  }

  #count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  #fail(what: string): void {
    this.failures.push(what);
    // One cause may be about thousands of targets.
    if (this.failures.length <= 20) this.#note(`FAILED ${what}`);
  }
}

/** RFC 3339, UTC. */
const iso = (ms: number): string => new Date(ms).toISOString();

export interface Terms {
  readonly betray?: (pinDir: string) => void;
  /** Steps from one quiet point to the next. */
  readonly stepsBetween?: number;
  /** Nothing but hands and alerts. */
  readonly isCalm?: boolean;
}

/** Root, and a lab of its own; nothing outside is touched. Failures print the last actions, unless they are wanted. */
export function soak(
  seconds: number,
  seed: number,
  { isQuiet = false, ...terms }: Terms & { readonly isQuiet?: boolean } = {},
): Promise<SoakResult> {
  return withLab(async (lab) => {
    const run = new Soak(lab, seed, seconds);
    let packetsPerSecond = 0;
    try {
      packetsPerSecond = await run.run({ betray: () => undefined, stepsBetween: 6, isCalm: false, ...terms });
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
  for (const failure of failures.slice(0, 20)) process.stdout.write(`${failure}\n`);
  if (failures.length > 20) process.stdout.write(`… and ${failures.length - 20} more\n`);
  const kinds = ['lost', 'leaked', 'returned'].map(
    (kind) => `${failures.filter((text) => text.startsWith(`${kind}:`)).length} ${kind}`,
  );
  process.stdout.write(`${kinds.join(', ')}; SOAK_SEED=${seed}\n`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

/**
 * What tests of the kernel side stand on: a bpffs of their own, network namespaces, veth pairs, processes inside them.
 *
 * Everything has a name that begins with `fd<pid>` or lies under one temporary directory. `close()` takes it away again and
 * asserts that nothing is left; the end of the process takes it away too.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AttachOutcome, DetachOutcome, Service, XdpMode } from '../../src/kernel/attach.ts';
import { type Native, native } from '../../src/kernel/native.ts';
import type { Sizes } from '../../src/kernel/object.ts';

/** One end of a veth pair. Without a namespace it stands in that of the test process. */
export interface End {
  readonly namespace?: string | null;
  /** At most 6 characters; the whole name is {@link Lab.name} of it unless `exact`. */
  readonly name: string;
  /** With their lengths, "192.0.2.1/24", "2001:db8::1/64". */
  readonly addresses?: readonly string[];
  /** Takes `name` as it is: only inside a namespace of the lab. */
  readonly exact?: boolean;
}

export interface LabOptions {
  /** Mode of the bpffs's root, as systemd mounts /sys/fs/bpf with 0700. Default 0755. */
  readonly bpffsMode?: number;
}

export interface AttachRequest {
  readonly mode?: XdpMode | 'auto';
  readonly sizes?: Partial<Sizes>;
  readonly service?: Service;
  /** An act.ts of another build (variant.ts); default this tree's. */
  readonly script?: string;
}

/** A failed {@link Lab.attach}: the code and words of the FalcodropError. */
export class ActError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, hint: string | undefined) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

export interface Lab {
  /** A temporary directory, mode 0755. */
  readonly directory: string;
  /** Root of a bpffs of the lab's own. */
  readonly bpffs: string;
  /** A directory on that bpffs which is not there yet: FALCODROP_PIN_DIR. */
  readonly pinDir: string;
  /** `fd<pid>` and the text, unique to this lab: a legal interface name when the text is short (≤ 5 characters). */
  name(text: string): string;
  /** A network namespace with lo up, its name returned. */
  namespace(text: string): string;
  /** A veth pair, both ends up, quiet (no IPv6 link-local address, no duplicate address detection). Returns both names. */
  veth(a: End, b: End): { readonly a: string; readonly b: string };
  /** Runs a program to its end in a namespace (null: here), its stdout returned. Throws with stderr when it fails. */
  exec(namespace: string | null, command: string, ...args: readonly string[]): string;
  /** The same without throwing. */
  run(
    namespace: string | null,
    command: string,
    ...args: readonly string[]
  ): { readonly status: number | null; readonly stdout: string; readonly stderr: string };
  /** Starts a program there; it is killed with the lab. */
  spawn(namespace: string | null, argv: readonly [string, ...string[]], options?: SpawnOptions): ChildProcess;
  /** kernel/attach.ts `attach` and `detach` run by a process of their own in that namespace, for they act on its own. */
  attach(namespace: string | null, names: readonly string[], request?: AttachRequest): AttachOutcome[];
  detach(namespace: string | null, names: readonly string[] | null, options?: { purge?: boolean }): DetachOutcome[];
  /** Interface index by name in a namespace. */
  ifindex(namespace: string | null, name: string): number;
  /** Called at close, before namespaces and mounts go; the last first. */
  onClose(step: () => void): void;
  /** Takes everything away, then asserts that nothing is left, for which the kernel has `patienceMs` (default 5 s). */
  close(patienceMs?: number): Promise<void>;
}

export const actScript = join(import.meta.dirname, 'act.ts');

let labs = 0;

/** A worker that is told to end does so through `exit`, which takes the labs away. */
const atSignal = (['SIGTERM', 'SIGINT', 'SIGHUP'] as const).map((signal) => [signal, () => process.exit(1)] as const);

export function openLab({ bpffsMode = 0o755 }: LabOptions = {}): Lab {
  const prefix = `fd${process.pid}${labs === 0 ? '' : String.fromCharCode(0x41 + ((labs - 1) % 26))}`;
  labs++;
  const directory = mkdtempSync(join(tmpdir(), `${prefix}-`));
  chmodSync(directory, 0o755);
  const bpffs = mkdtempSync(join(directory, 'bpffs-'));
  native().mountBpffs(bpffs, bpffsMode);
  chmodSync(bpffs, bpffsMode);

  const namespaces: string[] = [];
  const pairs: { namespace: string | null; name: string }[] = [];
  const children: ChildProcess[] = [];
  const steps: (() => void)[] = [];
  let gone = false;

  /** Synchronous, for it also runs when the process exits. */
  const remove = () => {
    if (gone) return;
    gone = true;
    const failures: unknown[] = [];
    const attempt = (step: () => void) => {
      try {
        step();
      } catch (error) {
        failures.push(error);
      }
    };
    for (const step of steps.reverse()) attempt(step);
    for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    for (const { namespace, name } of pairs) {
      if (hasInterface(namespace, name)) {
        attempt(() => ip(namespace, 'link', 'del', name));
      }
    }
    for (const name of namespaces) if (existsSync(`/run/netns/${name}`)) attempt(() => ip(null, 'netns', 'del', name));
    attempt(() => native().unmount(bpffs));
    if (mountsBelow(directory).length === 0) attempt(() => rmSync(directory, { recursive: true, force: true }));
    if (failures.length > 0) throw new AggregateError(failures, `the lab could not be taken away: ${failures[0]}`);
  };
  const atExit = () => {
    try {
      remove();
    } catch (error) {
      process.stderr.write(`${error}\n`);
    }
  };
  process.once('exit', atExit);
  for (const [signal, exit] of atSignal) process.once(signal, exit);

  const lab: Lab = {
    directory,
    bpffs,
    pinDir: join(bpffs, 'pins'),
    name: (text) => `${prefix}${text}`,
    namespace(text) {
      const name = lab.name(text);
      ip(null, 'netns', 'add', name);
      namespaces.push(name);
      ip(name, 'link', 'set', 'lo', 'up');
      return name;
    },
    veth(a, b) {
      const [nameA, nameB] = [a, b].map((end) => (end.exact === true ? end.name : lab.name(end.name))) as [
        string,
        string,
      ];
      const placed = (end: End) => (end.namespace == null ? [] : ['netns', end.namespace]);
      ip(null, ...['link', 'add', nameA, ...placed(a), 'type', 'veth'], ...['peer', 'name', nameB, ...placed(b)]);
      pairs.push({ namespace: a.namespace ?? null, name: nameA });
      for (const [end, name] of [
        [a, nameA],
        [b, nameB],
      ] as const) {
        const where = end.namespace ?? null;
        ip(where, 'link', 'set', name, 'addrgenmode', 'none');
        for (const address of end.addresses ?? []) {
          ip(where, 'addr', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : []));
        }
        ip(where, 'link', 'set', name, 'up');
      }
      return { a: nameA, b: nameB };
    },
    exec(namespace, program, ...rest) {
      const [command, ...args] = inside(namespace, [program, ...rest]);
      return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 28 });
    },
    run(namespace, program, ...rest) {
      const [command, ...args] = inside(namespace, [program, ...rest]);
      const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
      return { status, stdout, stderr };
    },
    spawn(namespace, argv, options = {}) {
      const [command, ...args] = inside(namespace, argv);
      const child = spawn(command, args, options);
      children.push(child);
      return child;
    },
    attach: (namespace, names, { script, ...request } = {}) =>
      act<AttachOutcome[]>(lab, namespace, { verb: 'attach', pinDir: lab.pinDir, names, ...request }, script),
    detach: (namespace, names, { purge = false } = {}) =>
      act<DetachOutcome[]>(lab, namespace, { verb: 'detach', pinDir: lab.pinDir, names, purge }),
    ifindex(namespace, name) {
      const [link] = JSON.parse(ip(namespace, '-j', 'link', 'show', 'dev', name)) as { ifindex: number }[];
      if (link === undefined) throw new Error(`there is no ${name}`);
      return link.ifindex;
    },
    onClose: (step) => {
      steps.push(step);
    },
    async close(patienceMs = 5000) {
      process.off('exit', atExit);
      for (const [signal, exit] of atSignal) process.off(signal, exit);
      const pinned = idsOf(bpffs);
      remove();
      await Promise.all(children.map(ended));
      await assertNothingLeft({ prefix, directory, pinned }, patienceMs);
    },
  };
  return lab;
}

/** Opens a lab for one piece of work and closes it whatever happens; an error of the work outranks one of closing. */
export async function withLab<T>(work: (lab: Lab) => T | Promise<T>, options: LabOptions = {}): Promise<T> {
  const lab = openLab(options);
  let result: T;
  try {
    result = await work(lab);
  } catch (error) {
    await lab.close().catch((second: unknown) => process.stderr.write(`after the failure: ${second}\n`));
    throw error;
  }
  await lab.close();
  return result;
}

/** Polls until `condition` holds; throws after `timeoutMs`, saying what was waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('close', () => resolve());
  });
}

interface PinnedIds {
  readonly links: readonly number[];
  readonly programs: readonly number[];
  readonly maps: readonly number[];
}

/** No mount, directory, namespace or interface, and none of the BPF objects that were pinned. */
async function assertNothingLeft(
  was: { prefix: string; directory: string; pinned: PinnedIds },
  patienceMs: number,
): Promise<void> {
  const left = () => [
    ...mountsBelow(was.directory).map((mount) => `mount ${mount}`),
    ...(existsSync(was.directory) ? [`directory ${was.directory}`] : []),
    ...(existsSync('/run/netns') ? readdirSync('/run/netns') : [])
      .filter((name) => isOurs(name, was.prefix))
      .map((name) => `namespace ${name}`),
    ...native()
      .netlink.links()
      .filter((link) => isOurs(link.name, was.prefix))
      .map((link) => `interface ${link.name}`),
    ...liveIds('link', was.pinned.links),
    ...liveIds('prog', was.pinned.programs),
    ...liveIds('map', was.pinned.maps),
  ];
  // The kernel frees programs, and with them maps, after a grace period; handles of the test close when collected.
  // Maps of a sleepable program (`change`) wait for one of RCU tasks trace, some 300 ms: collecting garbage is no help then.
  const deadline = performance.now() + patienceMs;
  let remaining = left();
  for (let round = 0; remaining.length > 0; round++) {
    if (performance.now() > deadline) throw new Error(`a test left behind: ${remaining.join(', ')}`);
    if (round % 8 === 0) (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
    remaining = left();
  }
}

/** `fd12A…` is not of the lab `fd12`, nor `fd123` of it. */
function isOurs(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && !/^[0-9A-Z]/.test(name.slice(prefix.length));
}

/** One process lists them all; asked only about the kinds that were pinned. */
function liveIds(kind: 'link' | 'prog' | 'map', ids: readonly number[]): string[] {
  if (ids.length === 0) return [];
  const { stdout } = spawnSync('bpftool', ['-j', kind, 'show'], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const live = new Set((JSON.parse(stdout === '' ? '[]' : stdout) as { id: number }[]).map(({ id }) => id));
  return ids.filter((id) => live.has(id)).map((id) => `${kind} ${id}`);
}

function idsOf(directory: string): PinnedIds {
  const ids = { links: [] as number[], programs: [] as number[], maps: [] as number[] };
  const openers = [
    [ids.maps, (path: string, addon: Native) => addon.openMap(path)],
    [ids.programs, (path: string, addon: Native) => addon.openProgram(path)],
    [ids.links, (path: string, addon: Native) => addon.openLink(path)],
  ] as const;
  for (const path of pinsBelow(directory)) {
    for (const [list, open] of openers) {
      try {
        const handle = open(path, native());
        list.push(handle.info.id);
        handle.close();
        break;
      } catch {
        // another kind of pin
      }
    }
  }
  return ids;
}

/** Names with a dot are the kernel's own (maps.debug, progs.debug). */
function pinsBelow(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    if (name.includes('.')) return [];
    const path = join(directory, name);
    const kind = lstatSync(path);
    return kind.isSymbolicLink() ? [] : kind.isDirectory() ? pinsBelow(path) : [path];
  });
}

function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((target) => target.startsWith(`${directory}/`));
}

/** Only the network namespace: in `ip netns exec` /sys and the mount namespace would be others too. */
function inside(namespace: string | null, argv: readonly [string, ...string[]]): readonly [string, ...string[]] {
  return namespace === null ? argv : ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv];
}

function ip(namespace: string | null, ...args: readonly string[]): string {
  return execFileSync('ip', [...(namespace === null ? [] : ['-n', namespace]), ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function hasInterface(namespace: string | null, name: string): boolean {
  return (
    spawnSync('ip', [...(namespace === null ? [] : ['-n', namespace]), 'link', 'show', 'dev', name], {
      stdio: 'ignore',
    }).status === 0
  );
}

function act<T>(lab: Lab, namespace: string | null, request: object, script = actScript): T {
  const { stdout, stderr } = lab.run(namespace, process.execPath, script, JSON.stringify(request));
  if (stdout === '') throw new Error(`act.ts said nothing: ${stderr}`);
  const answer = JSON.parse(stdout) as
    | { readonly done: T }
    | { readonly code: string; readonly message: string; readonly hint?: string };
  if ('done' in answer) return answer.done;
  throw new ActError(answer.code, answer.message, answer.hint);
}

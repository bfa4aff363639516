/**
 * Where the pins lie: `PIN_DIR/current` → `set-N` (maps and programs), `PIN_DIR/links/if<ifindex>`, and three directories that
 * are there to be flocked: `PIN_DIR/lock` by who writes block maps, `PIN_DIR/samples` by the one who reads the drop samples,
 * `PIN_DIR/root` by who writes what is root's alone.
 *
 * The default is a bpffs of our own, because systemd mounts /sys/fs/bpf with mode 0700, below which an unprivileged service
 * reaches nothing. bpffs refuses names with a dot, hence the ifindex in the links' names.
 */
import { existsSync, mkdirSync, readFileSync, readlinkSync, statfsSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { FalcodropError } from '../errors.ts';
import { fault } from '../fault.ts';
import { isNativeError, native } from './native.ts';

export const defaultPinDir = '/run/falcodrop/bpf';

/** BPF_FS_MAGIC of uapi/linux/magic.h. */
const bpffsMagic = 0xcafe4a11;

export interface PinPaths {
  readonly dir: string;
  /** Symbolic link to the set in force. */
  readonly current: string;
  readonly links: string;
  readonly lock: string;
  readonly samples: string;
  readonly root: string;
}

/** `FALCODROP_PIN_DIR` or the default. */
export function pinDirOf(environment: NodeJS.ProcessEnv): string {
  const given = environment.FALCODROP_PIN_DIR;
  return given === undefined || given === '' ? defaultPinDir : given;
}

export function pinPaths(dir: string): PinPaths {
  return {
    dir,
    current: join(dir, 'current'),
    links: join(dir, 'links'),
    lock: join(dir, 'lock'),
    samples: join(dir, 'samples'),
    root: join(dir, 'root'),
  };
}

export const linkPin = (paths: PinPaths, ifindex: number): string => join(paths.links, `if${ifindex}`);

function isBpffs(path: string): boolean {
  return existsSync(path) && statfsSync(path).type === bpffsMagic;
}

/** Throws `pin_dir_missing` unless something was attached with this pin directory. */
export function requirePins(dir: string): PinPaths {
  const paths = pinPaths(dir);
  try {
    readlinkSync(paths.current);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES' || code === 'EPERM') throw notReachable(dir, error);
    throw new FalcodropError(
      'pin_dir_missing',
      `there are no falcodrop maps under ${dir}`,
      'attach an interface first, as root: falcodrop attach IF',
      error,
    );
  }
  return paths;
}

export function notReachable(path: string, cause: unknown): FalcodropError {
  return new FalcodropError(
    'not_permitted',
    `${path} can not be reached by this user`,
    'run it as root, or as the service user that "falcodrop attach" gave the maps to',
    cause,
  );
}

/**
 * Root's part, before the first attach: makes sure that `dir` lies on a bpffs. Mounts one at the default place, and returns
 * true when it did. A mount made in another mount namespace than PID 1's would vanish with the command (`ip netns exec`),
 * and with it pins, links and drops: refused there.
 */
export function preparePinDir(dir: string): boolean {
  const mounts = requirePinPlace(dir);
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  if (!mounts) return false;
  try {
    native().mountBpffs(dir, 0o755);
    fault('attach.mounted');
  } catch (error) {
    throw isNativeError(error) && error.code === 'EPERM' ? notReachable(dir, error) : error;
  }
  return true;
}

/**
 * Whether pins can be made under `dir`, without making anything. Returns true when a bpffs would be mounted there. Throws
 * `usage`, `not_bpffs`, `foreign_mount_namespace`.
 */
export function requirePinPlace(dir: string): boolean {
  let parent = dir;
  while (!existsSync(parent)) parent = dirname(parent);
  if (isBpffs(parent)) {
    if (relative(parent, dir).includes('.')) {
      throw new FalcodropError(
        'usage',
        `${dir} can not be made: a bpffs takes no name with a dot`,
        'let FALCODROP_PIN_DIR name another directory',
      );
    }
    return false;
  }
  if (dir !== defaultPinDir) {
    throw new FalcodropError(
      'not_bpffs',
      `${dir} does not lie on a bpffs`,
      `mount one (mkdir -p ${dir} && mount -t bpf bpf ${dir}), or unset FALCODROP_PIN_DIR to use ${defaultPinDir}`,
    );
  }
  if (inPassingMountNamespace()) {
    throw new FalcodropError(
      'foreign_mount_namespace',
      `${dir} has no bpffs, and one mounted from this mount namespace would vanish with it`,
      'enter only the network namespace: nsenter --net=/run/netns/NAME falcodrop attach IF',
    );
  }
  return true;
}

/**
 * Whether our mount namespace is another than PID 1's. Where that can not be looked into (a container's PID 1 may belong to
 * another user namespace), than that of any process we descend from: `ip netns exec` makes one for its command alone.
 */
function inPassingMountNamespace(): boolean {
  const own = mountNamespaceOf('self');
  const first = mountNamespaceOf('1');
  if (first !== null) return first !== own;
  for (let pid = parentOf('self'); pid !== null; pid = parentOf(pid)) {
    const namespace = mountNamespaceOf(pid);
    if (namespace !== null && namespace !== own) return true;
  }
  return false;
}

function mountNamespaceOf(pid: string): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return null; // not ours to look into, or gone
  }
}

function parentOf(pid: string): string | null {
  try {
    const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return parent === undefined || parent === '0' ? null : parent;
  } catch {
    return null;
  }
}

/** True when `dir` is itself a mount point of a bpffs (its parent lies on another device). */
export function isOwnMount(dir: string): boolean {
  return isBpffs(dir) && statSync(dir).dev !== statSync(dirname(dir)).dev;
}

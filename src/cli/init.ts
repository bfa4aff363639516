/** `falcodrop init`: a first configuration, and the caller's way in kept open. */
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { type Address, formatAddress } from '../address/address.ts';
import { contains, hostPrefix } from '../address/prefix.ts';
import { defaultConfigPath } from '../config/path.ts';
import { FalcodropError } from '../errors.ts';
import { readCaller } from '../host/caller.ts';
import { type Dumps, readDumps } from '../host/carrier.ts';
import { isDefaultRoute } from '../host/route.ts';
import { loopback } from '../judge/guard/ranges.ts';
import { findInterface, requireEthernet } from '../kernel/attach.ts';
import { readAccountId } from './account.ts';
import { formatAllowLine, parseAllowFile } from './allow-file.ts';
import { allowFolderOf, readAllowFile } from './allow-folder.ts';
import { type Call, flag, isRoot, text } from './call.ts';
import { coverage } from './coverage.ts';
import { clean } from './output/clean.ts';
import { namedConfig } from './settings.ts';

const allowFile = '00-init';

/** The group that may read the configuration, where it exists: it holds no secret, and is nobody else's business. */
const serviceGroup = 'falcodrop';

export async function initConfig(call: Call): Promise<void> {
  const { answer } = call;
  const isDryRun = flag(call, 'dryRun');
  const named = namedConfig(call);
  const path = resolve(named ?? defaultConfigPath);
  const isThere = lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  if (isThere && !flag(call, 'force')) {
    throw new FalcodropError(
      'config_exists',
      `${path} is there already, and is left as it is`,
      '--force writes a new one and keeps the old beside it; falcodrop check tells whether it is right',
    );
  }
  const interfaces = await chooseInterfaces(call);
  const { firstConfiguration } = await import('../config/first.ts');
  const contents = firstConfiguration({ interfaces, schemaFile: schemaFile() });
  const allow = planAllow(call);

  let backup: string | null = null;
  if (!isDryRun) {
    makeFolder(dirname(path));
    // The way in first: who dies in between has no configuration yet, and can begin again.
    if (allow.lines !== null) {
      makeFolder(dirname(allow.path));
      place(allow.path, allow.lines, { mode: 0o644, gid: 0, replace: true });
    }
    if (isThere) backup = keep(path);
    const gid = readAccountId(serviceGroup, '/etc/group') ?? 0;
    place(path, contents, { mode: 0o640, gid, replace: isThere });
  }

  const option = named === undefined ? '' : ` --config ${path}`;
  const next = [
    `falcodrop check${option}`,
    `falcodrop attach --check${option}`,
    `falcodrop attach${option}`,
    `falcodrop run${option}`,
  ];
  if (answer.json) {
    answer.object({
      config: path,
      status: isDryRun ? 'dry_run' : isThere ? 'replaced' : 'written',
      backup,
      interfaces,
      allowed: allow.client === null ? null : formatAddress(allow.client),
      allow_file: allow.client === null ? null : allow.path,
      contents: isDryRun ? contents : null,
      next,
    });
    return;
  }
  if (isDryRun) {
    if (allow.lines !== null) answer.line(`# ${clean(allow.path)} would be:\n${allow.lines}`);
    answer.line(`# ${clean(path)} would be:\n${contents.trimEnd()}`);
    return;
  }
  answer.line(
    `${clean(path)} written: ${interfaces.map((name) => clean(name)).join(', ')}, automatic blocks only watch`,
  );
  if (backup !== null) answer.note(`the old one is ${backup}`);
  answer.line(allow.says);
  answer.line('Next, as root:');
  for (const command of next.slice(0, -1)) answer.line(`  ${clean(command)}`);
  answer.line(`and as ${readAccountId(serviceGroup, '/etc/passwd') === null ? 'root' : serviceGroup}:`);
  answer.line(`  ${clean(next.at(-1) ?? '')}`);
}

/** Which interfaces to attach to. Throws `interface_missing`, `no_ethernet_header`, `question_without_terminal`. */
async function chooseInterfaces(call: Call): Promise<readonly string[]> {
  const given = text(call, 'interface');
  const dumps = readDumps();
  if (given !== undefined) {
    requireEthernet(findInterface(given, dumps.links), dumps.links);
    return [given];
  }
  const choices = uplinks(dumps);
  const [only, ...others] = choices;
  if (only === undefined) {
    const names = dumps.links.filter(({ type }) => type === ethernet).map(({ name }) => name);
    throw new FalcodropError(
      'interface_missing',
      'no interface with a default route can be attached to',
      `say which packets come in by: --interface IF; there are ${names.join(', ')}`,
    );
  }
  return others.length === 0 ? only : choose(call, choices);
}

/** ARPHRD_ETHER. */
const ethernet = 1;

/**
 * What packets from outside come in by: each interface with a default route, or the ports below it (of a bond, of a bridge, the
 * card under a VLAN). Tunnels have no Ethernet header, and the interface below them is there by its own route.
 */
export function uplinks(dumps: Dumps): readonly (readonly string[])[] {
  const routed = new Set<number>();
  for (const route of dumps.routes) {
    if (isDefaultRoute(route)) for (const { ifindex } of route.nextHops) routed.add(ifindex);
  }
  const names = new Set(dumps.links.filter(({ ifindex }) => routed.has(ifindex)).map(({ name }) => name));
  const found = new Map<string, readonly string[]>();
  for (const { name, reason, through } of coverage(dumps, new Set())) {
    if (!names.has(name) || (reason === 'no_ethernet_header' && through.length === 0)) continue;
    const ports = through.length > 0 ? through : [name];
    found.set(ports.join(' '), ports);
  }
  return [...found.values()];
}

async function choose({ answer }: Call, choices: readonly (readonly string[])[]): Promise<readonly string[]> {
  const names = choices.map((ports) => ports.join(' and '));
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new FalcodropError(
      'question_without_terminal',
      `several interfaces have a default route: ${names.join(', ')}`,
      `say which packets come in by: --interface ${choices[0]?.[0] ?? 'IF'}`,
    );
  }
  await answer.flush();
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    for (const [index, name] of names.entries()) process.stderr.write(`  ${index + 1}  ${clean(name)}\n`);
    const said = (await lines.question('Several have a default route. Which do packets come in by? ')).trim();
    const chosen = choices[names.indexOf(said)] ?? (/^\d{1,3}$/.test(said) ? choices[Number(said) - 1] : undefined);
    if (chosen !== undefined) return chosen;
  } finally {
    lines.close();
  }
  throw new FalcodropError(
    'declined',
    'that is none of them; nothing was done',
    'answer with a name or a number of the list, or give --interface',
  );
}

interface AllowPlan {
  readonly path: string;
  /** The whole new file; null = it stays as it is. */
  readonly lines: string | null;
  /** Null: nobody came over the network. */
  readonly client: Address | null;
  readonly says: string;
}

/** Lines that are there stay: somebody else may have begun before. Throws `allow_file_invalid`. */
function planAllow(call: Call): AllowPlan {
  const path = join(allowFolderOf(call), allowFile);
  const client = readCaller(call.environment)?.client ?? null;
  if (client === null || loopback.covering(client) !== null) {
    const says =
      'You are not here over SSH: allow where you come from with "falcodrop allow add", or management: in it';
    return { path, lines: null, client: null, says };
  }
  const { allows, problems } = readAllowFile(path);
  const [problem] = problems;
  if (problem !== undefined) {
    throw new FalcodropError(
      'allow_file_invalid',
      `${path}:${problem.line}: ${problem.message}`,
      'mend or remove it first',
    );
  }
  const shown = formatAddress(client);
  if (allows.some(({ target, until }) => until === null && contains(target, client))) {
    return {
      path,
      lines: null,
      client,
      says: `${shown}, from where you are here, is allowed already (${clean(path)})`,
    };
  }
  const former = existsSync(path)
    ? readFileSync(path, 'utf8').replace(/\n*$/, '\n')
    : '# Written by "falcodrop init": from here it was set up. Yours to edit; then falcodrop protect.\n';
  const line = formatAllowLine({
    target: hostPrefix(client),
    until: null,
    force: false,
    reason: 'the SSH session of falcodrop init',
  });
  const lines = `${former}${line}\n`;
  if (parseAllowFile(lines).problems.length > 0) throw new Error('an allow line of ours is none');
  return { path, lines, client, says: `${shown}, from where you are here, will always pass (${clean(path)})` };
}

/** In dist/ and in src/cli/ the tree lies at different heights. Null where docs/ was not installed. */
function schemaFile(): string | null {
  const candidates = ['../docs/falcodrop.schema.json', '../../docs/falcodrop.schema.json'];
  const found = candidates.map((each) => new URL(each, import.meta.url)).find((url) => existsSync(url));
  return found === undefined ? null : fileURLToPath(found);
}

/** 0755 whatever the umask: the service reads what is in it. One that is there stays as it is. */
function makeFolder(path: string): void {
  if (existsSync(path)) return;
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o755);
}

interface Placing {
  readonly mode: number;
  readonly gid: number;
  readonly replace: boolean;
}

/**
 * On the disk whole before it has its name. Without `replace` a file that came meanwhile is not written over. A symbolic link is
 * replaced, not followed.
 */
function place(path: string, contents: string, { mode, gid, replace }: Placing): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new FalcodropError('failed', `${path} is a directory`, 'move it away first');
  }
  const fresh = `${path}.new-${process.pid}`;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const descriptor = openSync(fresh, flags, 0o600);
  try {
    const bytes = Buffer.from(contents);
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
    if (isRoot()) fchownSync(descriptor, 0, gid);
    fchmodSync(descriptor, mode);
    fsyncSync(descriptor);
    if (replace) renameSync(fresh, path);
    else linkSync(fresh, path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new FalcodropError('config_exists', `somebody else has made ${path} meanwhile`);
    throw new FalcodropError('failed', `${path} could not be written: ${code ?? message}`, undefined, error);
  } finally {
    closeSync(descriptor);
    if (existsSync(fresh)) unlinkSync(fresh);
  }
  syncFolder(dirname(path));
}

function syncFolder(path: string): void {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A second name for what is there, so that there is never none. Earlier ones are kept: `.bak`, `.bak.2`, … */
function keep(path: string): string {
  for (let n = 1; n < 1_000; n++) {
    const backup = n === 1 ? `${path}.bak` : `${path}.bak.${n}`;
    try {
      linkSync(path, backup);
      return backup;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      throw new FalcodropError(
        'failed',
        `${backup} could not be made: ${code ?? message}; nothing was done`,
        undefined,
        error,
      );
    }
  }
  throw new FalcodropError('failed', `${path} has too many backups beside it`, 'remove some');
}

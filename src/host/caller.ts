/** The SSH session in which a command was typed. */
import { type Address, readAddress } from '../address/address.ts';
import { readIfThere, textIfThere } from './files.ts';

export interface Caller {
  readonly client: Address;
  readonly server: Address;
}

/** `SSH_CONNECTION` of sshd: client's address and port, server's address and port. Null when it is not that. */
export function parseSshConnection(text: string | undefined): Caller | null {
  const [client, , server, , ...rest] = (text ?? '').trim().split(/\s+/);
  if (client === undefined || server === undefined || rest.length > 0) return null;
  const clientAddress = readAddress(client.replace(/%.*$/, ''));
  const serverAddress = readAddress(server.replace(/%.*$/, ''));
  return clientAddress === null || serverAddress === null ? null : { client: clientAddress, server: serverAddress };
}

/** Ancestors looked at; a login shell is a few above. */
const deepestAncestor = 32;

/**
 * Null outside SSH. sudo and su take SSH_CONNECTION out of the environment, so without it the ancestors' environments are
 * asked, as far as this user may read them. `proc` and `parent` are for tests.
 */
export function readCaller(
  environment: NodeJS.ProcessEnv,
  { proc = '/proc', parent = process.ppid }: { proc?: string; parent?: number } = {},
): Caller | null {
  let found = parseSshConnection(environment.SSH_CONNECTION);
  for (let pid = parent, depth = 0; found === null && pid > 1 && depth < deepestAncestor; depth++) {
    const variables = readIfThere(`${proc}/${pid}/environ`)?.toString('latin1').split('\0') ?? [];
    found = parseSshConnection(variables.find((text) => text.startsWith('SSH_CONNECTION='))?.slice(15));
    // "PID (name) state ppid …"; the name may hold anything, brackets too
    const status = textIfThere(`${proc}/${pid}/stat`);
    const next = status === null ? Number.NaN : Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[1]);
    pid = Number.isInteger(next) ? next : 0;
  }
  return found;
}

/** Users and groups by name, from the files; directories such as LDAP are not asked. */
import { readFileSync } from 'node:fs';

/** The number of `name` in text of /etc/passwd or /etc/group; a number is itself. Null when it is not there. */
export function accountId(name: string, text: string): number | null {
  if (/^\d{1,10}$/.test(name)) return Number(name);
  for (const line of text.split('\n')) {
    const [entry, , id] = line.split(':');
    if (entry === name && id !== undefined && /^\d{1,10}$/.test(id)) return Number(id);
  }
  return null;
}

export function readAccountId(name: string, file: '/etc/passwd' | '/etc/group'): number | null {
  try {
    return accountId(name, readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** Names of numbers; a number without a name is its own. Read once. */
export function accountNames(): { readonly user: (uid: number) => string; readonly group: (gid: number) => string } {
  const read = (file: string): ReadonlyMap<string, string> => {
    const names = new Map<string, string>();
    try {
      for (const line of readFileSync(file, 'utf8').split('\n')) {
        const [name, , id] = line.split(':');
        if (name !== undefined && id !== undefined && !names.has(id)) names.set(id, name);
      }
    } catch {
      // no such file in this root
    }
    return names;
  };
  const [users, groups] = [read('/etc/passwd'), read('/etc/group')];
  return { user: (uid) => users.get(`${uid}`) ?? `${uid}`, group: (gid) => groups.get(`${gid}`) ?? `${gid}` };
}

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

/** HOST:PORT, as servers are named in settings. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Null: it is none. The host of an IPv6 address stands in brackets, for it has colons of its own. */
export function parseHostPort(text: string): HostPort | null {
  const [, bracketed, plain, digits = ''] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]{1,253})):(\d{1,5})$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port };
}

/** The one way of writing it. */
export function formatHostPort({ host, port }: HostPort): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

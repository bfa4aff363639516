/** A way that alerts come in by, and whom it may speak for. */
export interface SourceRef {
  /** `http`, `stdin`, `file:/var/log/falco.jsonl`, … */
  readonly name: string;
  /**
   * True: alerts of other hosts are expected here (a central falcosidekick, a topic of the fleet). Then an alert that names
   * no host is nobody's, whatever way it came, and those of `fleetHosts` are judged as alerts of another host.
   */
  readonly remote: boolean;
  /** Names in lower case of the other hosts that a remote source may speak for. */
  readonly fleetHosts: ReadonlySet<string>;
}

/** What is not declared otherwise: it speaks for this host alone. */
export function sourceOf(
  name: string,
  { remote = false, fleetHosts = [] }: { readonly remote?: boolean; readonly fleetHosts?: Iterable<string> } = {},
): SourceRef {
  return { name, remote, fleetHosts: new Set([...fleetHosts].map((host) => host.toLowerCase())) };
}
